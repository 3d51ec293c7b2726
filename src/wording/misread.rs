use crate::ledger::Misread;

/// What is wrong with the answer to a read.
pub(super) fn misread(misread: &Misread) -> String {
    match misread {
        Misread::Unreadable { path, problem } => {
            format!("the answer to the read of {path} is unreadable: {problem}")
        }
        Misread::Cell { path, told } => {
            format!("the answer to the read of {path} tells {told} as the cell")
        }
        Misread::Format { path, format } => format!(
            "the read of {path} was answered in content format {format}, which is not understood"
        ),
    }
}
