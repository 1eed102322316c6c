"""Write a checkpoint as GGUF (llama.cpp, Ollama) or ONNX, and verify it by running it.

  triptych export runs/RUN_ID --format gguf --dtype q8_0 --out model.gguf
  triptych export ./checkpoint --format onnx --out onnx/
  triptych export ./checkpoint --text held-out.txt

The file is run beside the reference model: the same tokens, the same log-probabilities within
the precision of its weights, and the loss in bits per byte is printed. A GGUF file comes with an
Ollama Modelfile made from the same chat template.
"""

from __future__ import annotations

import argparse
import sys

from triptych.errors import ExportError

#: Nats by which the likeliest tokens may differ from the float32 reference.
ALLOWED_NATS = {"f32": 5e-3, "f16": 0.25, "bf16": 0.5, "q8_0": 1.0,
                "q6_k": 1.5, "q5_k_m": 2.0, "q4_k_m": 3.0}  # fmt: skip
ALLOWED_LOGITS = 1e-3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych export`."""
    parser.add_argument("model", metavar="MODEL", help="folder, run or owner/name")
    parser.add_argument("--format", choices=("gguf", "onnx"), default="gguf")
    parser.add_argument("--dtype", choices=tuple(ALLOWED_NATS), default="f16", help="GGUF weights")
    parser.add_argument("--out", metavar="PATH", help="file (gguf) or folder (onnx) to write")
    parser.add_argument("--text", metavar="FILE", help="text to measure the loss on")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Export, verify, report."""
    import json

    from triptych.cli.resolve import resolve

    folder = resolve(args.model)
    result = _onnx(args, folder) if args.format == "onnx" else _gguf(args, folder)
    if args.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            shown = f"{value:.6g}" if isinstance(value, float) else value
            print(f"{name.replace('_', ' '):<24} {shown}")
    return 0


def _gguf(args: argparse.Namespace, folder: object) -> dict[str, object]:
    from pathlib import Path

    from triptych.lm.export.gguf import export_gguf
    from triptych.lm.export.modelfile import write_modelfile
    from triptych.lm.generate.llama_cpp import LlamaCppEngine, LlamaCppOptions
    from triptych.lm.generate.parity import PROBE, compare_engines
    from triptych.lm.generate.torch_engine import TorchEngine

    source = Path(str(folder))
    path = Path(args.out or f"{source.resolve().name}.{args.dtype}.gguf")
    report = export_gguf(source, path, dtype=args.dtype)
    print(f"wrote {path}, verifying it ...", file=sys.stderr)
    reference = TorchEngine.load(source, dtype="float32", max_batch=1)
    exported = LlamaCppEngine(source, path, LlamaCppOptions(dtype=args.dtype, max_batch=1))
    try:
        text = Path(args.text).read_text(encoding="utf-8") if args.text else PROBE
        agreement = compare_engines(reference, exported, text)
    finally:
        exported.close()
        reference.close()
    allowed = ALLOWED_NATS[args.dtype]
    if not agreement.same_tokens or agreement.max_difference_nats > allowed:
        raise ExportError(
            f"{path} is not the same model: log-probabilities differ by "
            f"{agreement.max_difference_nats:.3g} nats, {allowed:g} is allowed for {args.dtype}",
            hint="choose a wider --dtype; the file was left for inspection",
            code="parity",
        )
    try:
        modelfile = str(write_modelfile(source, path, context_length=reference.info.context_length))
    except ExportError as error:
        # Only Ollama reads it; the model itself is written and verified.
        modelfile = ""
        print(f"no Modelfile: {error}", file=sys.stderr)
    return {
        "file": str(path),
        "modelfile": modelfile,
        "architecture": report.architecture,
        "parameters": report.parameters,
        "size_bytes": report.size_bytes,
        "max_difference_nats": agreement.max_difference_nats,
        "same_choice_frac": agreement.same_choice_frac,
        "reference_bits_per_byte": agreement.reference_bits_per_byte,
        "bits_per_byte": agreement.bits_per_byte,
        "loss_bits_per_byte": agreement.loss_bits_per_byte,
    }


def _onnx(args: argparse.Namespace, folder: object) -> dict[str, object]:
    from pathlib import Path

    from triptych.lm.export.onnx import export_onnx
    from triptych.lm.generate.parity import onnx_difference

    source = Path(str(folder))
    out = Path(args.out or f"{source.resolve().name}-onnx")
    report = export_onnx(source, out)
    print(f"wrote {report.path}, verifying it ...", file=sys.stderr)
    difference = onnx_difference(source, report.path)
    if difference > ALLOWED_LOGITS:
        raise ExportError(
            f"{report.path} is not the same model: logits differ by {difference:.3g}",
            code="parity",
        )
    return {
        "file": str(report.path),
        "opset": report.opset,
        "size_bytes": report.size_bytes,
        "max_logit_difference": difference,
    }
