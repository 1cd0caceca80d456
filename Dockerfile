# The worker's image. Name the target that you want:
#
#   docker build --target worker .        no weights inside; they come from a volume
#   docker build --target gateway .       queue API and page, without torch and ComfyUI
#   docker build --target test .          the worker with its tests
#   docker build --target worker-baked .  the weights of models.lock inside (31 GB more)
#
# worker-baked stands last because RunPod's builder takes no --target: it builds the last one.
# What seldom changes comes first, so a change of handler/ rebuilds and pushes one small layer.

# What everything is built on: the stage `debian` below, or an image of yours that is like it.
ARG BASE_IMAGE=debian

# The lock of ComfyUI's environment. The default has torch for CUDA 13.0, which needs NVIDIA driver
# 580 or later; docs/image.md says how to make and name a lock for an older one.
ARG COMFY_LOCK=comfy/requirements.lock


# Nothing of CUDA: torch's wheels bring their CUDA libraries with them. A stage of its own, since
# Dependabot finds an image only where it stands in FROM (dependabot-core issue 2057).
FROM debian:bookworm-20260824-slim@sha256:88200866dfff7ea7f5cbcb6ec7c8a701889efe6fe859fe64d6990e4b07ea4171 AS debian


FROM ${BASE_IMAGE} AS base
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# Pinned to upstream's releases: Debian removes a package from its mirrors when it mends it, so a
# pin to Debian's revision would keep security fixes out until the build breaks.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        'ca-certificates=2023*' \
        'python3=3.11.*' \
        'tini=0.19.*' \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/cache/debconf/*-old \
        /var/log/apt /var/log/dpkg.log /var/log/alternatives.log
RUN groupadd --gid 10001 worker \
    && useradd --uid 10001 --gid worker --no-log-init --create-home --shell /usr/sbin/nologin worker


FROM base AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends 'python3-pip=23.*' 'python3-venv=3.11.*' \
    && rm -rf /var/lib/apt/lists/*
# The environments get no pip: this one installs into them from outside.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_INPUT=1 \
    PIP_ROOT_USER_ACTION=ignore


FROM build AS comfy-env
ARG COMFY_LOCK
# Where such a lock has its torch from; its hashes hold whatever an index serves.
ARG PIP_EXTRA_INDEX_URL=""
COPY ${COMFY_LOCK} /build/requirements.lock
# Byte code that is never compared with its source costs no look at it; nothing edits these files.
# torch has a test module in the syntax of Python 3.12, which 3.11 can't compile.
RUN python3 -m venv --without-pip /opt/comfy \
    && pip --python /opt/comfy/bin/python install --no-cache-dir --no-compile --no-deps \
        --only-binary :all: --require-hashes --progress-bar off -r /build/requirements.lock \
    && /opt/comfy/bin/python -m compileall -q -j 0 -x '/py312_intrinsics\.py' \
        --invalidation-mode unchecked-hash /opt/comfy/lib


FROM build AS handler-env
COPY requirements.lock /build/requirements.lock
RUN python3 -m venv --without-pip /opt/handler \
    && pip --python /opt/handler/bin/python install --no-cache-dir --no-compile --no-deps \
        --only-binary :all: --require-hashes --progress-bar off -r /build/requirements.lock \
    && /opt/handler/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        /opt/handler/lib


FROM build AS comfyui
COPY comfy/comfyui.lock /build/comfy/comfyui.lock
COPY scripts/vendor_comfyui.py /build/scripts/vendor_comfyui.py
COPY scripts/vendoring/ /build/scripts/vendoring/
# Upstream's models/ has only folders for each kind of model. They move to where the weights are,
# and a link stands in their place, so that ComfyUI and whatever looks under it find the same files.
# Here byte code is compared with its source by hash: images made from this one may patch ComfyUI.
RUN python3 /build/scripts/vendor_comfyui.py --into /comfyui \
    && rm -rf /comfyui/tests /comfyui/tests-unit /comfyui/script_examples /comfyui/.vendored.json \
    && mkdir -p /workspace/ComfyUI \
    && mv /comfyui/models /workspace/ComfyUI/models \
    && ln -s /workspace/ComfyUI/models /comfyui/models \
    && python3 -m compileall -q -j 0 --invalidation-mode checked-hash /comfyui


FROM base AS code
COPY LICENSE models.lock /app/
COPY comfy/bootstrap.py comfy/launch.py /app/comfy/
COPY comfy/worker_boot/ /app/comfy/worker_boot/
COPY comfy/worker_nodes/ /app/comfy/worker_nodes/
COPY scripts/fetch_models.py scripts/healthcheck.py scripts/verify_models.py /app/scripts/
COPY handler/ /app/handler/
RUN python3 -m compileall -q --invalidation-mode checked-hash /app


# Everything of an image but the weights and our code.
FROM base AS runtime
COPY --from=comfy-env /opt/comfy /opt/comfy
COPY --from=handler-env /opt/handler /opt/handler
COPY --from=comfyui /comfyui /comfyui
# Owned by the worker, so that weights can be fetched into it where there is no volume.
COPY --from=comfyui --chown=10001:10001 /workspace /workspace
# The driver's libraries are put into the container by NVIDIA's runtime, which reads the last two.
ENV COMFY_DIR=/comfyui \
    COMFY_PORT=8188 \
    COMFY_PYTHON=/opt/comfy/bin/python \
    WORKER_MODELS_DIR=/workspace/ComfyUI/models \
    WORKER_MODELS_LOCK=/app/models.lock \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    NVIDIA_VISIBLE_DEVICES=all
WORKDIR /app
# By number, so that an orchestrator that asks for a user other than root can tell. Reading a volume
# that root owns works; fetching weights onto one needs `--user 0` or a folder that 10001 may write.
USER 10001:10001
STOPSIGNAL SIGTERM
# No port is published: ComfyUI listens on loopback. The start period covers loading torch from a
# cold disk.
HEALTHCHECK --interval=30s --timeout=5s --start-period=5m --retries=3 \
    CMD ["/opt/handler/bin/python", "-I", "/app/scripts/healthcheck.py"]
# tini reaps what custom nodes leave behind and passes SIGTERM on to the worker.
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["/opt/handler/bin/python", "-m", "handler"]


FROM runtime AS worker
COPY --from=code /app /app
# Last, since they differ with each commit.
ARG SOURCE="" REVISION="" VERSION=""
LABEL org.opencontainers.image.title="Qwen Image Edit worker" \
      org.opencontainers.image.description="RunPod serverless worker for Qwen Image Edit 2509" \
      org.opencontainers.image.licenses="GPL-3.0-or-later" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.version="${VERSION}"


FROM build AS gateway-env
COPY requirements-gateway.lock /build/requirements.lock
# botocore brings the descriptions of all of AWS, 28 MB, and S3 is used. Packages' own tests are a
# tenth of the rest.
RUN python3 -m venv --without-pip /opt/gateway \
    && pip --python /opt/gateway/bin/python install --no-cache-dir --no-compile --no-deps \
        --only-binary :all: --require-hashes --progress-bar off -r /build/requirements.lock \
    && find /opt/gateway/lib/python3.11/site-packages/botocore/data -mindepth 1 -maxdepth 1 \
        -type d ! -name s3 -exec rm -r {} + \
    && find /opt/gateway/lib -type d -name tests -prune -exec rm -r {} + \
    && /opt/gateway/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        /opt/gateway/lib


FROM base AS gateway
COPY --from=gateway-env /opt/gateway /opt/gateway
RUN install -d -o 10001 -g 10001 /data
ENV GATEWAY_DATA_DIR=/data \
    GATEWAY_LISTEN=0.0.0.0:8787 \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1
WORKDIR /app
COPY LICENSE /app/
COPY handler/__init__.py handler/errors.py handler/logs.py handler/nearest.py /app/handler/
COPY handler/contract/ /app/handler/contract/
COPY handler/models/ /app/handler/models/
COPY handler/pictures/ /app/handler/pictures/
COPY handler/workflow/ /app/handler/workflow/
COPY examples/portrait.jpg /app/examples/
COPY gateway/ /app/gateway/
USER 10001:10001
VOLUME /data
EXPOSE 8787
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/opt/gateway/bin/python", "-I", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8787/health', timeout=4)"]
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["/opt/gateway/bin/python", "-m", "gateway", "serve"]
ARG SOURCE="" REVISION="" VERSION=""
LABEL org.opencontainers.image.title="Qwen Image Edit gateway" \
      org.opencontainers.image.description="Queue API, orchestrator and page for Qwen Image Edit" \
      org.opencontainers.image.licenses="GPL-3.0-or-later" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.version="${VERSION}"


# The tests of this image's own environments: docker run --rm IMAGE [pytest's arguments]
FROM worker AS test
USER 0
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        'git=1:2.39.*' 'make=4.3*' 'python3-pip=23.*' 'python3-venv=3.11.*' \
    && rm -rf /var/lib/apt/lists/*
COPY requirements-dev.lock /build/requirements-dev.lock
# scripts/vendor_comfyui.py, which is tested too, asks its own Python for pip.
RUN /opt/handler/bin/python -m ensurepip \
    && /opt/handler/bin/python -m pip install --no-cache-dir --no-deps --only-binary :all: \
        --require-hashes --progress-bar off -r /build/requirements-dev.lock
COPY . /src
WORKDIR /src
# Where a clone has what `make setup` makes.
RUN ln -s /opt/handler .venv \
    && ln -s /opt/comfy comfy/.venv \
    && ln -s /comfyui comfy/ComfyUI \
    && comfy/.venv/bin/python comfy/scale_models/write.py build/scale-models \
    && chown -R 10001:10001 /src
USER 10001:10001
# The tests choose their own settings.
ENV COMFY_DIR="" \
    COMFY_PYTHON="" \
    PYTHONPATH="" \
    WORKER_MODELS_DIR="" \
    WORKER_MODELS_LOCK=""
HEALTHCHECK NONE
ENTRYPOINT ["/usr/bin/tini", "--", "/opt/handler/bin/python", "-m", "pytest"]
CMD ["tests/unit"]


FROM handler-env AS models
WORKDIR /build
# Only what the fetching needs: any other change of handler/ must not fetch 31 GB again.
COPY models.lock ./
COPY scripts/fetch_models.py scripts/
COPY handler/__init__.py handler/errors.py handler/nearest.py handler/
COPY handler/hub/ handler/hub/
COPY handler/models/ handler/models/
ARG MODELS_PROFILE=""
RUN --mount=type=secret,id=hf_token \
    if [ -s /run/secrets/hf_token ]; then \
        HF_TOKEN="$(cat /run/secrets/hf_token)"; export HF_TOKEN; \
    fi \
    && PYTHONPATH=/build /opt/handler/bin/python scripts/fetch_models.py \
        --into /models --lock models.lock ${MODELS_PROFILE:+--profile "${MODELS_PROFILE}"} \
    && mkdir -p /models/others /models/vae /models/loras /models/clip /models/unet \
    && find /models -mindepth 1 -maxdepth 1 -type d ! -name others ! -name vae ! -name loras \
        ! -name clip ! -name unet -exec mv -t /models/others {} +


FROM runtime AS worker-baked
ARG MODELS_PROFILE=""
ENV WORKER_MODELS_PROFILE="${MODELS_PROFILE}"
# One layer a folder: registries limit a layer's size, and take several at a time.
COPY --from=models --chown=10001:10001 /models/vae /workspace/ComfyUI/models/vae
COPY --from=models --chown=10001:10001 /models/loras /workspace/ComfyUI/models/loras
COPY --from=models --chown=10001:10001 /models/clip /workspace/ComfyUI/models/clip
COPY --from=models --chown=10001:10001 /models/unet /workspace/ComfyUI/models/unet
COPY --from=models --chown=10001:10001 /models/others /workspace/ComfyUI/models
COPY --from=code /app /app
ARG SOURCE="" REVISION="" VERSION=""
LABEL org.opencontainers.image.title="Qwen Image Edit worker, weights inside" \
      org.opencontainers.image.description="RunPod serverless worker for Qwen Image Edit 2509" \
      org.opencontainers.image.licenses="GPL-3.0-or-later" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.version="${VERSION}"
