"""From rewards to advantages. Nothing here has a gradient; all is float32 or more.

Rewards that are not finite are refused: one NaN would silently become the advantage of a
whole group or batch.
"""
