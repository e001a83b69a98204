//! What lies on a partition, by its content, and the reader that opens it.
