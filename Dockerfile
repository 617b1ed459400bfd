# The notebooks in JupyterLab, with the tested versions of everything:
#
#   docker build --tag vlmbook . && docker run --rm --init --publish 127.0.0.1:8888:8888 vlmbook
#
# It prints an address with a token, for a browser. A reader's work outlives the container in a volume:
# --volume vlmbook-work:/srv/vlmbook-work. With a GPU and the NVIDIA Container Toolkit on the host: --gpus all.
FROM python:3.11-slim-bookworm

RUN useradd --create-home --uid 1000 reader \
    && install --directory --owner=reader --group=reader /srv/venv /srv/vlmbook /srv/vlmbook-work
USER reader
ENV PATH=/srv/venv/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /srv/venv

# A mirror of the packages is given at build time: --build-arg PIP_INDEX_URL=…
ARG PIP_INDEX_URL
WORKDIR /srv/vlmbook
COPY --chown=reader:reader . .
RUN pip install -c constraints.txt -e ".[pretrained]"

VOLUME /srv/vlmbook-work
EXPOSE 8888
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8888/api', timeout=5)"]
CMD ["vlmbook", "lab", "--dir", "/srv/vlmbook-work", "--", "--ip=0.0.0.0", "--port=8888", "--no-browser"]
