"""A study of some arms that takes seconds."""

from pathlib import Path

LENGTH, CONTEXT, STRIDE = 48, 12, 12
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
MEASURED = {"windows": {"length": LENGTH - 1}, "conditions": ["truncate"]}


def content(texts: Path, **changes):
    """A study of three arms that takes seconds."""
    given = {
        "name": "study",
        "model": {"config": {"model_type": "llama", "num_attention_heads": 2, **SIZES}},
        "tokenizer": {"kind": "words", "size": 60},
        "data": {"path": str(texts)},
        "held_out": 6,
        "length": LENGTH,
        "tokens": 20 * 2 * LENGTH,
        "batch": 2,
        "learning_rate": 1e-2,
        "seeds": [0, 1],
        "arms": {
            "plain": {},
            "longce": {"online": {"context": CONTEXT, "stride": STRIDE}},
            "half": {"documents": {"share": 0.5}},
            "sparse": {"weights": "sparse(kappa=0.2)"},
        },
        "scoring": {
            "protocol": {"kind": "longppl", "context": CONTEXT, "stride": STRIDE},
            "windows": {"length": LENGTH - 1},
        },
        "measures": {
            "far": {**MEASURED, "protocol": {"kind": "sweep", "reach": 16}},
            "longppl": {
                "protocol": {"kind": "longppl", "context": CONTEXT, "stride": STRIDE},
                "windows": {"length": LENGTH - 1},
            },
        },
    }
    return given | changes
