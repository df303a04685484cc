"""export FORMAT: write out/balanced and its images to out/export/FORMAT/, for other trainers."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from data.exports import EXPORTS, ExportFormat, ImageReader, export_of
from pipeline.cluster import Advancing, MakeShard, Record, make_shards
from pipeline.content.stores import commit_files
from pipeline.stage import run_stage
from pipeline.work import work_folder
from stages.parameters import read_parameters
from stages.reporting.recommendation import read_recommendation
from stages.shared.paths import BALANCED, EXPORT, RECOMMENDATION


def new_exporter(export: ExportFormat, work: Path) -> MakeShard:
    """Return the function that writes a piece of the export; `work` has the rows of each piece."""
    reader = ImageReader(export.manifest.root, export.stores)

    def make(shard: int, advance: Advancing) -> Record:
        piece = export.pieces[shard]
        rows = export.rows_of(work, piece)
        images = reader.encoded(rows, export.encoding, export.section.quality, advance)
        return commit_files(work, shard, len(rows), export.write_piece(work, piece, rows, images))

    return make


def main(format: Annotated[str, typer.Argument(help=f"one of {', '.join(EXPORTS)}")]) -> None:
    """Write the balanced data in a format; pieces that an interrupted run finished are kept."""
    parameters = read_parameters()
    section = parameters.export
    verdict = read_recommendation(RECOMMENDATION).sentence if RECOMMENDATION.is_file() else ""
    export = export_of(format, BALANCED, section, verdict)
    work = work_folder(f"export {format}")
    sizes = [piece.stop - piece.start for piece in export.pieces]
    export.write_rows(work.folder)
    set_up = partial(new_exporter, export, work.folder)
    records = make_shards(f"export {format}", work.folder, sizes, set_up, parameters.cluster)
    work.publish(EXPORT / format, export.finish(work.folder, records))


if __name__ == "__main__":
    run_stage(main)
