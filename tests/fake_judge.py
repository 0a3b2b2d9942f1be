"""A judge on loopback, as a service that speaks OpenAI's protocol would be."""

from __future__ import annotations

import json

from tests.fake_server import FakeServer


class FakeJudge(FakeServer):
    """Prefers the answer with most of a mark; ``reply`` makes its words from question and both answers."""

    def __init__(self):
        self.asked, self.headers, self.refuse = [], [], []
        self.reply = self.fair

    def fair(self, question, first, second):
        if first.count("!") == second.count("!"):
            return "They are alike.\nVerdict: tie"
        return f"Verdict: **{'A' if first.count('!') > second.count('!') else 'B'}**"

    def answer(self, request, *, send_body):
        request.send_error(405)

    def receive(self, request):
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        self.headers.append(dict(request.headers))
        if self.refuse:
            status, text = self.refuse.pop(0)
            return self._send(request, status, {"error": {"message": text}})
        self.asked.append(body)
        text = body["messages"][1]["content"]
        question, rest = text.split("\n\n# Answer A\n")
        said = self.reply(question, *rest.split("\n\n# Answer B\n"))
        self._send(request, 200, {"choices": [{"message": {"content": said}}]})

    def _send(self, request, status, body):
        data = json.dumps(body).encode()
        request.send_response(status)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)
