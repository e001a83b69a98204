//! Partition tables: MBR, extended partitions, GPT.
