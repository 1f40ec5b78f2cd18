# Three images: `app` runs this project's code, `minio` is the store, `tensorboard` shows the curves without torch.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG GOLANG_IMAGE=golang:1.26-bookworm
# cpu, or gpu with CUDA's libraries, three times as large.
ARG DEVICE=cpu


FROM ${PYTHON_IMAGE} AS base
RUN groupadd --gid 1000 gan && useradd --uid 1000 --gid 1000 --no-create-home --home-dir /tmp gan && \
    install -d -o gan -g gan /work
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Settings of uv during the build. The root file system will be read-only, so it compiles now.
ARG VIRTUAL_ENV=/opt/venv UV_COMPILE_BYTECODE=1 UV_CACHE_DIR=/root/.cache/uv UV_LINK_MODE=copy


# MinIO no longer publishes images or binaries, so the server is built from its last commit. The compiler takes a third
# less time without debug information, which -w leaves out anyway, and with more memory for less garbage collection.
FROM ${GOLANG_IMAGE} AS minio-build
ARG MINIO_VERSION=v0.0.0-20260212201848-7aac2a2c5b7c
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    GOGC=400 CGO_ENABLED=0 go install -trimpath -gcflags=all=-dwarf=false -ldflags="-s -w" \
      github.com/minio/minio@${MINIO_VERSION}


FROM base AS minio
COPY --from=minio-build /go/bin/minio /usr/local/bin/minio
RUN install -d -o gan -g gan /data
LABEL org.opencontainers.image.title="gan-train-minio" \
      org.opencontainers.image.description="MinIO, built from its Go module, for the gan-train stack" \
      org.opencontainers.image.licenses="AGPL-3.0-only"
USER 1000:1000
WORKDIR /data
EXPOSE 9000 9001
# -I -S: only the standard library is loaded, so the check starts in 50 ms
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 \
    CMD ["python3", "-IS", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9000/minio/health/ready', timeout=4)"]
ENTRYPOINT ["minio"]
CMD ["server", "/data", "--console-address", ":9001"]


# Installs packages into the other images, and is in none of them.
FROM base AS uv
RUN --mount=type=bind,source=requirements-uv.lock,target=/tmp/requirements.lock \
    pip --disable-pip-version-check install --quiet --no-cache-dir --no-deps --require-hashes --target /opt/uv \
      -r /tmp/requirements.lock


FROM base AS tensorboard
RUN --mount=type=bind,from=uv,source=/opt/uv,target=/opt/uv \
    --mount=type=bind,source=requirements-tensorboard.lock,target=/tmp/requirements.lock \
    --mount=type=cache,target=/root/.cache/uv \
    python3 -m venv --without-pip /opt/venv && \
    /opt/uv/bin/uv pip install --quiet --no-deps --require-hashes -r /tmp/requirements.lock
LABEL org.opencontainers.image.title="gan-train-tensorboard" \
      org.opencontainers.image.description="TensorBoard for the runs of the gan-train stack" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 1000:1000
WORKDIR /work
EXPOSE 6006
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 \
    CMD ["python3", "-IS", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:6006/', timeout=4)"]
ENTRYPOINT ["tensorboard"]
CMD ["--logdir", "/work/store/runs", "--bind_all", "--port", "6006", "--samples_per_plugin", "images=100"]


# What changes rarely: torch, Prefect and the other dependencies. Without a GPU, torch needs two of CUDA's libraries.
# TORCH_INDEX_URL names an index that has torch's CPU build, which needs none. The lock has no hashes for that one.
FROM base AS packages
ARG DEVICE
ARG TORCH_INDEX_URL=
RUN --mount=type=bind,from=uv,source=/opt/uv,target=/opt/uv \
    --mount=type=bind,source=requirements-app.lock,target=/tmp/requirements.lock \
    --mount=type=cache,target=/root/.cache/uv \
    python3 -m venv --without-pip /opt/venv && \
    case "$DEVICE${TORCH_INDEX_URL:+ by index}" in \
      cpu) skip='triton|cuda-|nvidia-' keep='nvidia-cuda-(runtime|cupti)==' ;; \
      'cpu by index') skip='torch==|torchvision==|triton|cuda-|nvidia-' keep=- ;; \
      gpu) skip=- keep=- ;; \
      *) echo "DEVICE is cpu or gpu, and TORCH_INDEX_URL is for cpu" >&2; exit 1 ;; \
    esac && \
    awk -v skip="^($skip)" -v keep="^($keep)" '/^[a-z]/ {skipped = $0 ~ skip && $0 !~ keep} !skipped' \
      /tmp/requirements.lock >/tmp/chosen.lock && \
    /opt/uv/bin/uv pip install --quiet --no-deps --require-hashes -r /tmp/chosen.lock && \
    rm /tmp/chosen.lock && \
    if [ -n "$TORCH_INDEX_URL" ]; then \
      grep -oE '^(torch|torchvision)==[0-9.]+' /tmp/requirements.lock >/tmp/torch.txt && \
      /opt/uv/bin/uv pip install --quiet --no-deps --index-url "$TORCH_INDEX_URL" -r /tmp/torch.txt && rm /tmp/torch.txt; \
    fi && \
    packages=$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
    # Prefect's UI sends analytics before it reads the setting that forbids it. Without this key it cannot.
    key=c97dd2acbf306ab7bf54aca0aeb7ffa1 && grep -rl "$key" "$packages/prefect/server" >/tmp/pages && \
    xargs sed -i "s/$key//g" </tmp/pages && rm /tmp/pages && \
    echo /app >"$packages/gan-train.pth" && \
    printf '#!/bin/sh\nexec python -m gan "$@"\n' >/opt/venv/bin/gan && chmod 755 /opt/venv/bin/gan


# What torch's CUDA build links and nothing on a CPU calls: 3 GB of libraries become stubs of some kB.
FROM ${GOLANG_IMAGE} AS stubs
RUN --mount=type=bind,source=stack,target=/stack \
    --mount=type=bind,from=packages,source=/opt/venv/lib,target=/venv \
    mkdir /stubs && sh /stack/stub_libraries.sh /stubs /venv/python3*/site-packages/torch/lib /venv


FROM packages AS dependencies-gpu


# Torch would find a GPU, and end at the first stub. So it is told that there is none.
FROM packages AS dependencies-cpu
ENV CUDA_VISIBLE_DEVICES=
RUN --mount=type=bind,from=stubs,source=/stubs,target=/stubs \
    cp -r /stubs/. /opt/venv/lib/python3*/site-packages/torch/lib/ && python -c 'import torch'


# hadolint ignore=DL3006
FROM dependencies-${DEVICE} AS dependencies
# A new volume takes the owner of the folder that it is mounted on. Postgres has its own user id.
RUN install -d -o gan -g gan -m 700 /run/secrets/all /run/secrets/minio /run/secrets/app /run/secrets/server \
      /run/secrets/client /var/lib/prefect && \
    install -d -o gan -g gan -m 755 /run/secrets/postgres


# The commit of the checkout, for the provenance of runs. It is unknown where .git is no folder, as in a worktree of git.
FROM ${GOLANG_IMAGE} AS commit
ARG GAN_GIT_COMMIT=
RUN --mount=type=bind,target=/src \
    if [ -z "$GAN_GIT_COMMIT" ] && GAN_GIT_COMMIT=$(git -c safe.directory=/src -C /src rev-parse HEAD); then \
      changed=$(git -c safe.directory=/src -c core.fileMode=false -C /src status --porcelain -- gan flows stack prefect.yaml) && \
      GAN_GIT_COMMIT=$GAN_GIT_COMMIT${changed:+-dirty}; \
    fi; \
    printf %s "$GAN_GIT_COMMIT" >/GIT_COMMIT


FROM dependencies AS app
WORKDIR /app
COPY prefect.yaml ./
COPY stack stack
COPY flows flows
COPY gan gan
# The root file system will be read-only, so compile now. A clone's umask may hide files from other users.
RUN chmod -R a+rX . && python -m compileall -q --invalidation-mode unchecked-hash .
COPY --from=commit /GIT_COMMIT ./
# PYTHONSAFEPATH: nothing is imported from the working directory, because runs write to it
ENV PYTHONSAFEPATH=1
LABEL org.opencontainers.image.title="gan-train" \
      org.opencontainers.image.description="Train a GAN on MNIST as a real workflow, orchestrated by Prefect" \
      org.opencontainers.image.licenses="MIT"
USER 1000:1000
WORKDIR /work
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=6 \
    CMD ["python3", "-IS", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health', timeout=4)"]
CMD ["python", "-m", "flows.worker"]
