"""Multi-scale patch pooling (MSPP) as one matrix over the cells of the LLP map; facts from shared/reference/brivl.md."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def boxes(grids: list[int], cells: int) -> list[tuple[float, float, float, float]]:
    """Boxes (x1, y1, x2, y2) in units of map cells: for grid g its g * g squares, x in the outer loop."""
    found = []
    for grid in grids:
        side = cells / grid
        found += [(i * side, j * side, (i + 1) * side, (j + 1) * side) for i in range(grid) for j in range(grid)]
    return found


def pooling_matrix(grids: list[int], roi: int, cells: int) -> torch.Tensor:
    """The linear map from a `cells` x `cells` map to its patch tokens: [tokens, cells * cells] float32.

    As the original: theta is written for `align_corners=True`, while `affine_grid` and `grid_sample` (bilinear, zeros outside)
    run with `align_corners=False`; then the roi x roi samples are averaged. Rows near the border do not sum to one.
    """
    one_hot = torch.eye(cells * cells, dtype=torch.float64).reshape(1, cells * cells, cells, cells)
    rows = []
    for x1, y1, x2, y2 in boxes(grids, cells):
        last = cells - 1
        theta = torch.tensor(
            [[(x2 - x1) / last, 0, (x1 + x2 - last) / last], [0, (y2 - y1) / last, (y1 + y2 - last) / last]], dtype=torch.float64
        )[None]
        grid = F.affine_grid(theta, [1, 1, roi, roi], align_corners=False)
        samples = F.grid_sample(one_hot, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        rows.append(samples.mean(dim=(2, 3))[0])
    return torch.stack(rows).float()
