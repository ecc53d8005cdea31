"""Figures of merit for retrieval: recall@k, mAP, k-NN accuracy."""
