//! The Azure face, as its clients meet it: requests written byte by byte over TLS, with the tokens that `strongroom dev`
//! hands out. The official client libraries are tried elsewhere; here each rule of the wire is.

mod challenge;
mod clients;
mod commands;
mod corpus;
mod face;
mod hsm;
mod identity;
mod isolation;
mod keys;
mod record;
mod secrets;
mod spelling;
