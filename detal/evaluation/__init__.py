"""How good detections are: COCO's figures, and the table that computes them fast."""
