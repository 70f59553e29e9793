//! decK's commands and Kong's, as a client of an Admin API.
