//! decK files: read with line numbers, substitute, flatten, diff into an ordered plan, write back.
