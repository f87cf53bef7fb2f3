//! How fast an HSM is here: what `strongroom bench` and `cargo bench` measure with.
//!
//! A [`Case`] is an algorithm, a kind of key and an operation. It is measured in several forms, each of which
//! does the same [`Work`] and whose [`Answer`]s are looked at afterwards:
//!
//! ```text
//! raw      PKCS#11 alone, in processes shut in as workers are      raw.rs
//! echo     gRPC alone: the same transport with nothing behind      echo.rs
//! unary    the service as its callers have it, one operation       call.rs
//! batch    a hundred of them in a call                             call.rs
//! stream   many under way on one stream                            call.rs, stream.rs
//! azure    one request of the Azure face                           azure.rs
//! ```
//!
//! [`load`] lets many callers work for a time, [`usage`] says what CPU time it took, and [`figures`] is the
//! arithmetic. Nothing here prints, and nothing here is served by `strongroom serve`.

pub mod azure;
pub mod call;
pub mod case;
pub mod echo;
pub mod figures;
pub mod load;
pub mod paced;
pub mod raw;
pub mod stream;
pub mod usage;
pub mod verify;

pub use case::{Answer, Case, Work};
