"""export FORMAT: out/balanced and its stores -> out/export/FORMAT/: the data for other trainers."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from data.exports import EXPORTS, ImageReader, export_of
from pipeline.cluster import Advancing, MakeShard, Record, make_shards
from pipeline.parameters import Export, read_parameters
from pipeline.stage import run_stage
from pipeline.stores import commit_files
from pipeline.work import publish, work_folder
from stages.paths import BALANCED, EXPORT


def new_exporter(format: str, section: Export, work: Path) -> MakeShard:
    """What writes a piece of the export, from the stores to its files."""
    export = export_of(format, BALANCED, section)
    manifest = export.manifest
    table = manifest.located(export.table)
    reader = ImageReader(manifest.root, sorted(table["store"].unique()))

    def make(shard: int, advance: Advancing) -> Record:
        piece = export.pieces[shard]
        rows = table.iloc[piece.start : piece.stop]
        images = reader.encoded(rows, export.encoding, section.quality, advance)
        return commit_files(work, shard, len(rows), export.write_piece(work, piece, rows, images))

    return make


def main(format: Annotated[str, typer.Argument(help=f"one of {', '.join(EXPORTS)}")]) -> None:
    """Write the balanced data in a format; a piece that an interrupted run finished is kept."""
    parameters = read_parameters()
    section = parameters.export
    export = export_of(format, BALANCED, section)
    inputs = [BALANCED, *(Path(store) for store in sorted(export.table["store"].unique()))]
    settings = section.model_dump(exclude={"formats"})
    work = work_folder(f"export {format}", inputs, settings)
    sizes = [piece.stop - piece.start for piece in export.pieces]
    set_up = partial(new_exporter, format, section, work)
    make_shards(f"export {format}", work, sizes, set_up, parameters.cluster)
    publish(export.finish(work), EXPORT / format)


if __name__ == "__main__":
    run_stage(main)
