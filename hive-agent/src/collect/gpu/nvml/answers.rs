//! What NVML's errors mean.

use std::fmt::Display;

use nvml_wrapper::error::NvmlError;

/// Why the reading of a GPU, or all reading, ended.
#[derive(Debug)]
pub(super) enum Loss {
    /// This GPU cannot be used; the others can. In the words of its state.
    Gpu(&'static str),
    /// The library has lost its driver: everything must be opened anew.
    Session(NvmlError),
}

/// Sorts what NVML answers about one GPU.
pub(super) struct Answers<'a> {
    /// About whom, for the complaints.
    pub(super) subject: String,
    pub(super) complaints: &'a mut Vec<String>,
}

impl Answers<'_> {
    /// The value; `None` where there is none, which is a complaint unless the GPU or its driver
    /// simply does not have such a thing.
    pub(super) fn take<T>(
        &mut self,
        what: &str,
        answer: Result<T, NvmlError>,
    ) -> Result<Option<T>, Loss> {
        let error = match answer {
            Ok(value) => return Ok(Some(value)),
            Err(error) => error,
        };
        match error {
            NvmlError::NotSupported
            | NvmlError::NotFound
            | NvmlError::NoData
            | NvmlError::FunctionNotFound
            | NvmlError::FailedToLoadSymbol(_) => Ok(None),
            // The numbers that drivers after this wrapper's gave to "no such function version",
            // "deprecated" and "not ready yet".
            NvmlError::UnexpectedVariant(25..=27) => Ok(None),
            error => {
                let loss = loss(error)?;
                self.complain(what, loss);
                Ok(None)
            }
        }
    }

    pub(super) fn complain(&mut self, what: &str, error: impl Display) {
        self.complaints.push(format!("{}: cannot read {what}: {error}", self.subject));
    }
}

/// Sorts out the errors after which there is no use in asking on; gives back the others.
pub(super) fn loss(error: NvmlError) -> Result<NvmlError, Loss> {
    match error {
        NvmlError::GpuLost => Err(Loss::Gpu("lost")),
        NvmlError::ResetRequired => Err(Loss::Gpu("needs a reset")),
        error if is_without_driver(&error) => Err(Loss::Session(error)),
        error => Ok(error),
    }
}

/// Whether the library has lost its driver, or never had it.
pub(super) fn is_without_driver(error: &NvmlError) -> bool {
    matches!(
        error,
        NvmlError::Uninitialized | NvmlError::DriverNotLoaded | NvmlError::LibRmVersionMismatch
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gpu_does_not_have_is_no_complaint() {
        let mut complaints = Vec::new();
        let mut answers = Answers { subject: "GPU 0".into(), complaints: &mut complaints };
        for error in [NvmlError::NotSupported, NvmlError::UnexpectedVariant(25)] {
            assert!(answers.take::<u32>("its power", Err(error)).unwrap().is_none());
        }
        assert!(answers.complaints.is_empty());
        assert!(answers.take::<u32>("its power", Err(NvmlError::Unknown)).unwrap().is_none());
        assert_eq!(complaints, ["GPU 0: cannot read its power: an internal driver error occurred"]);
    }

    #[test]
    fn a_lost_gpu_is_told_from_a_lost_driver() {
        assert!(matches!(loss(NvmlError::GpuLost), Err(Loss::Gpu("lost"))));
        assert!(matches!(loss(NvmlError::ResetRequired), Err(Loss::Gpu("needs a reset"))));
        assert!(matches!(loss(NvmlError::DriverNotLoaded), Err(Loss::Session(_))));
        assert!(loss(NvmlError::Timeout).is_ok());
    }
}
