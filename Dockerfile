# jinaclip serve, as a user without rights, on a slim Python. See docs/serving.md.
#
#   docker build --tag jinaclip .
#   docker run --gpus all --publish 8000:8000 --volume models:/models --volume ./keys:/keys:ro jinaclip
#
# PIP_EXTRA_INDEX_URL and TORCH choose another PyTorch: for CPUs alone, which is a tenth as large, say.

ARG PYTHON=3.13
FROM python:${PYTHON}-slim AS build
ARG PIP_EXTRA_INDEX_URL=""
ARG TORCH="torch>=2.5"
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/jinaclip && /opt/jinaclip/bin/pip install "${TORCH}"
COPY constraints.txt /build/
COPY shared /build/shared
RUN /opt/jinaclip/bin/pip install --constraint /build/constraints.txt "/build/shared[local,serve]"

FROM python:${PYTHON}-slim
ENV PATH=/opt/jinaclip/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HF_HOME=/models
COPY --from=build /opt/jinaclip /opt/jinaclip
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin jinaclip \
    && install --directory --owner=10001 --group=10001 /models
USER 10001
WORKDIR /models
VOLUME /models
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10m \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/ready', timeout=2)"]
ENTRYPOINT ["jinaclip", "serve", "--host", "0.0.0.0", "--keys", "/keys"]
CMD ["--model", "jina-clip-v2"]
