# Training on a GPU pod: see docs/runpod.md. Nothing of a run stays in the container; runs, bars and
# caches lie on the volume at /workspace.
FROM python:3.11-slim-bookworm

# The compiler is for torch.compile, git for the commit in every checkpoint, ssh and rsync for
# bringing archives home. Host keys are made anew in every container.
RUN apt-get update \
    && apt-get install --no-install-recommends -y g++ git openssh-server rsync \
    && rm -rf /var/lib/apt/lists/* /etc/ssh/ssh_host_* \
    && useradd --create-home --shell /bin/bash --uid 1000 trader

WORKDIR /opt/pricetaker

# The dependencies alone, so that another commit does not fetch gigabytes again. PyPI's own torch is
# one for CUDA; another one comes from an index of torch: for an older driver, or without a GPU.
ARG TORCH_INDEX=""
COPY pyproject.toml docker/list_dependencies.py /tmp/build/
RUN python /tmp/build/list_dependencies.py /tmp/build/pyproject.toml download hub > /tmp/build/all.txt \
    && pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -r /tmp/build/all.txt \
    && rm -r /tmp/build

COPY --chown=trader:trader . .
RUN pip install --no-cache-dir --no-deps -e . \
    && git config --system --add safe.directory /opt/pricetaker \
    && for folder in bars checks runs; do ln -s "/workspace/$folder" "$folder"; done

# On the volume, so that a pod that starts again compiles and downloads nothing twice.
ENV WORKSPACE=/workspace \
    XDG_CACHE_HOME=/workspace/.cache \
    PIP_CACHE_DIR=/workspace/.cache/pip \
    TORCHINDUCTOR_CACHE_DIR=/workspace/.cache/inductor \
    TRITON_CACHE_DIR=/workspace/.cache/triton \
    WANDB_DIR=/workspace/.cache/wandb \
    PYTHONUNBUFFERED=1
# The same for whoever comes by ssh, which starts with an empty environment.
RUN printf '%s=%s\n' PATH "$PATH" WORKSPACE "$WORKSPACE" XDG_CACHE_HOME "$XDG_CACHE_HOME" \
    PIP_CACHE_DIR "$PIP_CACHE_DIR" TORCHINDUCTOR_CACHE_DIR "$TORCHINDUCTOR_CACHE_DIR" \
    TRITON_CACHE_DIR "$TRITON_CACHE_DIR" WANDB_DIR "$WANDB_DIR" > /etc/environment

VOLUME /workspace
# As root for a moment: it makes the volume's folders the user's, starts ssh if there is a key, and
# becomes that user for good.
ENTRYPOINT ["/opt/pricetaker/docker/entrypoint.sh"]
CMD []
