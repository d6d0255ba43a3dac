//! dtdl
