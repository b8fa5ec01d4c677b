"""The command ``models``: what ships."""

from pneumoscope.cli.console import print_table


def models() -> None:
    """List the models that ship, with their metrics."""
    from pneumoscope.inference.bundle import open_bundle, shipped_models

    rows: list[tuple[str, ...]] = [("model", "input", "AUC", "accuracy", "sensitivity", "specificity", "threshold")]
    for name in shipped_models():
        bundle = open_bundle(name)
        metrics = bundle.contract.get("metrics", {})
        values = [f"{metrics[key]['value']:.3f}" for key in ("roc_auc", "accuracy", "sensitivity", "specificity")]
        rows.append((name, "x".join(map(str, bundle.spec.shape)), *values, f"{bundle.threshold:.3f}"))
    print_table("Shipped models, measured on held-out patients of the training data (not the official test):", rows)
