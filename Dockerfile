# heartseg for processors: the packaged model on ONNX Runtime, without Keras and TensorFlow.
#
#   python -m build --wheel
#   docker build -t heartseg .
#   docker run --rm --network none -v "$PWD/data:/data:ro" -v "$PWD/results:/results" \
#     heartseg infer /data/scan.nii.gz --output /results

FROM python:3.12-slim AS build
WORKDIR /build
COPY dist/*.whl constraints.txt tools/runtime_requirements.py ./
RUN python -m venv /opt/heartseg \
 && python runtime_requirements.py *.whl > requirements.txt \
 && /opt/heartseg/bin/pip install --no-cache-dir -c constraints.txt -r requirements.txt \
 && /opt/heartseg/bin/pip install --no-cache-dir --no-deps *.whl \
 && /opt/heartseg/bin/pip uninstall --yes pip

FROM python:3.12-slim
# Libraries that OpenCV loads.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/heartseg /opt/heartseg
RUN useradd --create-home --uid 1000 heartseg && mkdir /results && chown heartseg /results
USER heartseg
WORKDIR /results
ENV PATH=/opt/heartseg/bin:$PATH PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["heartseg"]
CMD ["--help"]
