//! digital_twins
