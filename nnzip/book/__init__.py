"""What makes the library a book: the study behind every figure, the plots, the benchmark, help for notebooks."""
