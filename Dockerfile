# For a machine with an NVIDIA card and the NVIDIA Container Toolkit; without a card it trains on the
# CPU. torch brings its own CUDA libraries, so a plain Python image is enough.
#
#   docker build -t finetune-workbench .
#   docker run --rm --gpus all -p 127.0.0.1:7860:7860 -e WORKBENCH_PASSWORD=choose-one \
#       -v finetune-workbench:/workspace finetune-workbench
FROM python:3.11-slim-bookworm

# tini passes signals on and reaps the training processes. Its version follows the base image.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 workbench \
    && install -d -o workbench -g workbench /workspace

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY workbench workbench
RUN pip install --no-cache-dir -c constraints.txt -e .
COPY presets presets
COPY data data
COPY app.py ./

USER 1000
# Inside a container the page must listen on all addresses to be reachable, so it asks for
# WORKBENCH_PASSWORD at start. Publish the port on 127.0.0.1, as above.
ENV WORKBENCH_HOME=/workspace \
    WORKBENCH_HOST=0.0.0.0 \
    GRADIO_ANALYTICS_ENABLED=False
VOLUME /workspace
EXPOSE 7860
HEALTHCHECK --interval=30s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:7860', timeout=5)"]
ENTRYPOINT ["tini", "--"]
CMD ["python", "app.py"]
