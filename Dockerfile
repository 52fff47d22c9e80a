# maubot with the plugin's Python packages in it: with this image nothing is downloaded when a pod starts
# (`dependencies.install: false` in the chart's values). ./build.sh image builds it, for amd64 and arm64 alike.

# Pin it by its digest: ./build.sh image --base dock.mau.dev/maubot/maubot@sha256:... The digest of v0.6.0 is not known
# here, because no registry could be reached where this was written.
ARG BASE=dock.mau.dev/maubot/maubot:v0.6.0
FROM ${BASE}

USER root
COPY chart/files/requirements.txt /opt/toggle/requirements.txt
# The base has pip, libolm and maubot's own packages. Ours go before those, as from the chart's volume: so our tests run
# maubot. By a .pth file, because PYTHONPATH belongs to whoever runs the image. Another index and its CA: pip's variables.
ARG PIP_INDEX_URL
ARG PIP_CERT
RUN python3 -m pip install --quiet --no-cache-dir --disable-pip-version-check --no-deps --require-hashes \
        --only-binary :all: --target /opt/toggle/packages --requirement /opt/toggle/requirements.txt \
    && site=$(python3 -c 'import site; print(site.getsitepackages()[0])') \
    && mkdir -p "$site" \
    && echo "import sys; sys.path.insert(0, '/opt/toggle/packages')" >"$site/toggle.pth" \
    && { command -v tini >/dev/null || apk add --no-cache tini; } \
    && cd /opt/maubot && python3 -c 'import kubernetes.aio, maubot, olm'

WORKDIR /opt/maubot
USER 1337:1337
VOLUME /data
# The chart brings a command of its own. Without it: a configuration in /data/config.yaml.
ENTRYPOINT ["tini", "--"]
CMD ["python3", "-m", "maubot", "-c", "/data/config.yaml", "--no-update"]
