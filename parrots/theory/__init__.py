"""The theory of "Mixture of Parrots" (arXiv 2410.19034, section 3 and appendix C), built as weights and checked."""
