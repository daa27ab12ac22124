"""What is kept on disk to look at: recordings, films, learning curves, and the page of an evaluation."""
