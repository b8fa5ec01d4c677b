"""The tables of damaged and hostile DICOM files, from the results of benchmarks/damage."""

DAMAGES = ("cut", "cut and closed", "piece missing", "piece zeroed", "one byte changed")


def damage_table(results: dict) -> list[str]:
    """Shares of damaged files that get a verdict, by encoding; before and after if both were measured."""
    lines = ["| encoding | " + " | ".join(DAMAGES) + " |", "|---" * (len(DAMAGES) + 1) + "|"]
    versions = [results[name] for name in ("before", "now") if name in results]
    for encoding in results["now"]:
        cells = []
        for damage in DAMAGES:
            counts = [version[encoding][damage] for version in versions]
            shares = " → ".join(f"{judged / files:.0%}" for judged, files in counts if files)
            cells.append(shares or "–")
        lines.append(f"| {encoding} | " + " | ".join(cells) + " |")
    return lines


def hostile_table(results: dict) -> list[str]:
    """What hostile files cost, by kind."""
    lines = ["| kind | files | most CPU seconds | most megabytes |", "|---|---|---|---|"]
    for name, kind in results["kinds"].items():
        cells = f"{kind['files']} | {kind['most_cpu_seconds']:.2f} | {kind['most_megabytes']:.0f}"
        lines.append(f"| {name.replace('_', ' ')} | {cells} |")
    large = results["megabytes_of_large_images_at_once"]
    needs = ", ".join(f"{count} at once {megabytes:.0f} MB" for count, megabytes in large.items())
    return [*lines, "", f"Of a JPEG 2000 file of 24 megapixels: {needs}, the results of 24 MB each included."]
