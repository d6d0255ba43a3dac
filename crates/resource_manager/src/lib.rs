//! resource_manager
