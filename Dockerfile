# Everything that `triptych up` starts, in one image. The data lives in the volume /data.
FROM python:3.11-slim

RUN apt-get update && apt-get install --yes --no-install-recommends git bubblewrap \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY triptych triptych
# torch's default build brings CUDA; name an index of CPU builds to leave that out.
ARG PIP_EXTRA_INDEX_URL=""
RUN pip install --no-cache-dir -c constraints.txt -e '.[postgres,redis]'
RUN useradd --create-home triptych && mkdir /data && chown triptych /data
USER triptych
ENV TRIPTYCH_HOME=/data
VOLUME /data
EXPOSE 7860 7870 7880
HEALTHCHECK --start-period=60s CMD triptych status
CMD ["triptych", "up", "panels.host=0.0.0.0", "gateway.host=0.0.0.0"]
