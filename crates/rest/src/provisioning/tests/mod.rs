//! The provisioning door through its routes, without a socket: what official clients would send, and what they must get.

mod access;
mod attestation;
mod bulk;
mod devices;
mod enrollments;
mod fixture;
mod limits;
mod queries;
mod registrations;
