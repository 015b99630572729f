//! Tests across the whole of Sluice. The library part holds only what tests and fuzz targets run alike.

pub mod hostile_input;
