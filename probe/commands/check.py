"""`probe check`: does branching give this model's own losses?"""

import click

from probe.commands._visible import note, say
from probe.commands.options import Choice, command_lines, quiet
from probe.errors import ProbeError, UsageError

SHORTEST = 8  # tokens; a model with fewer positions is not tried
SOURCE = 64  # tokens of what an encoder reads
MORE = 32  # texts at most; of them all only where losses depend on a sequence's length


@click.command(
    "check",
    short_help="Check the engine on a model.",
    epilog=command_lines(
        "probe check HuggingFaceTB/SmolLM2-135M",
        "probe check models/mine --dtype bfloat16 --length 4096",
    ),
)
@click.argument("model")
@click.option(
    "--dtype",
    type=Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Dtype of the weights.",
)
@click.option("--device", default="auto", show_default=True, help="A torch device.")
@click.option("--attention", default="sdpa", show_default=True, help="attn_implementation.")
@click.option("--length", default=1024, show_default=True, type=click.IntRange(min=96))
@click.option("--compile", "compiled", is_flag=True, help="Try model.compile, too.")
@click.option("--trust-remote-code", is_flag=True, help="Run code that comes with the model.")
def command(
    model: str,
    dtype: str,
    device: str,
    attention: str,
    length: int,
    compiled: bool,
    trust_remote_code: bool,
) -> None:
    """Try MODEL, and every technique of the engine on it against whole forwards.

    Causal: a loss does not change with the tokens behind its target. Length: nor with their number.
    Masked models and encoders see what follows and have no cache: they are forwarded whole.

    Exit status 0: branching can be used; 1: this model is forwarded whole, or sees what follows.
    """
    quiet()
    import numpy as np

    from probe.engine.compiled import try_compiled
    from probe.engine.selfcheck import check
    from probe.models.load import load_model, open_source

    source = open_source(model, trust_remote_code=trust_remote_code)
    length = min(length, source.positions or length)
    if length < SHORTEST:
        raise UsageError(
            f"{source.location.name} has {length} positions; allowed: {SHORTEST} or more, since no "
            "technique can be tried on fewer tokens"
        )
    loaded = load_model(
        source,
        dtype=dtype,
        device=device,
        attention=attention,
        trust_remote_code=trust_remote_code,
    )
    for warning in loaded.warnings:
        note(warning)
    # Any ids will do: what is compared is the same text by two ways.
    rng = np.random.default_rng(0)
    more = (rng.integers(source.vocabulary, size=length) for _ in range(MORE))
    with loaded.reading(loaded.some_source(SOURCE)):
        text = next(more)
        report = check(loaded, text, lower=loaded.family == "causal", more=more)
        outcomes = list(report.outcomes)
        if compiled and all(one.passed for one in outcomes if one.technique == "causal"):
            outcomes.append(try_compiled(loaded, text, report.techniques, note)[0])
    say(
        f"{source.location.name} ({type(loaded.model).__name__}, "
        f"{str(loaded.model.dtype).removeprefix('torch.')}, {length} tokens)"
    )
    for outcome in outcomes:
        say(f"  {outcome}")
    report.refuse_acausal(loaded)
    if not report.techniques.branching and loaded.family not in ("masked", "encoder"):
        raise ProbeError("branching is not exact on this model: every branch is forwarded whole")
