//! Many operations in one call.

use strongroom_proto::v1::BatchRequest;

use crate::{Client, Error, Operation, Outcome};

impl Client {
    /// Many operations in one call: 1 to 256, and 4 MiB. One result for each, in their order; one that fails is no
    /// reason for another to. What reaches the HSM's own speed with short operations.
    ///
    /// # Errors
    /// Of the call: [`Error`]. Of an operation: as its method.
    pub async fn batch(&self, operations: &[Operation<'_>]) -> Result<Vec<Result<Outcome, Error>>, Error> {
        let request = || BatchRequest { operations: operations.iter().map(|operation| operation.request()).collect() };
        let results = self.call(request, |request| async { self.crypto().batch(request).await }).await?.results;
        if results.len() != operations.len() {
            return Err(Error::Unexpected(format!("{} results to {} operations", results.len(), operations.len())));
        }
        let outcomes = results.into_iter().zip(operations);
        Ok(outcomes.map(|(result, operation)| self.outcome(operation.wanted(), result)).collect())
    }
}
