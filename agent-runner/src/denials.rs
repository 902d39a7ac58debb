//! What the walls refused, a line each, for a person: `sandbox --log-denials`.
//!
//! Only what the sandbox saw; a list without a line says that nothing was seen, not that nothing was refused.

use protocol::Printable;

use crate::report::Report;

/// A line for each refusal in `report`, and one where there is none.
pub(crate) fn lines(report: &Report) -> String {
    let seen = report
        .denials
        .as_ref()
        .and_then(|denials| denials.as_array());
    let lines: Vec<String> = seen
        .into_iter()
        .flatten()
        .map(|denial| format!("refused: {}\n", Printable(&denial.to_string())))
        .collect();
    if lines.is_empty() {
        "refused: nothing that the walls could see\n".to_owned()
    } else {
        lines.concat()
    }
}
