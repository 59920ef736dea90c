//! Whether two targets answered the same.

use std::fmt;

use keyloom_etcd_api::{
    Status,
    etcdserverpb::{ResponseHeader, ResponseOp, response_op::Response},
};

use crate::Answer;

/// What two answers may differ in, besides the member that answered and the raft term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tolerance {
    /// Whether the targets may be different clusters.
    pub cluster_id: bool,
}

/// How one answer differs from the other: the lines between what they have in common at their
/// beginnings and ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Difference {
    pub expected: Vec<String>,
    pub got: Vec<String>,
}

/// How many lines of each side are shown.
const SHOWN: usize = 60;

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the answers differ (- expected, + got)")?;
        for (sign, lines) in [("-", &self.expected), ("+", &self.got)] {
            for line in lines.iter().take(SHOWN) {
                writeln!(f, "{sign} {line}")?;
            }
            if let Some(more @ 1..) = lines.len().checked_sub(SHOWN) {
                writeln!(f, "{sign} ({more} lines more)")?;
            }
        }
        Ok(())
    }
}

/// Compares what two targets answered to the same step.
///
/// # Errors
/// Where the answers differ in more than is tolerated.
pub fn same_answer(
    expected: &Result<Answer, Status>,
    got: &Result<Answer, Status>,
    tolerance: Tolerance,
) -> Result<(), Difference> {
    let expected = lines(expected, tolerance);
    let got = lines(got, tolerance);
    if expected == got {
        return Ok(());
    }
    let before = common(expected.iter(), got.iter());
    let (expected, got) = (rest(&expected, before), rest(&got, before));
    let after = common(expected.iter().rev(), got.iter().rev());
    let without_end = |lines: &[String]| rest_before(lines, after);
    Err(Difference {
        expected: without_end(&expected),
        got: without_end(&got),
    })
}

fn common<'a>(a: impl Iterator<Item = &'a String>, b: impl Iterator<Item = &'a String>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).count()
}

fn rest(lines: &[String], from: usize) -> Vec<String> {
    lines.iter().skip(from).cloned().collect()
}

fn rest_before(lines: &[String], from_end: usize) -> Vec<String> {
    let kept = lines.len().saturating_sub(from_end);
    lines.iter().take(kept).cloned().collect()
}

/// An outcome as text, every field on a line of its own, without what is tolerated.
fn lines(outcome: &Result<Answer, Status>, tolerance: Tolerance) -> Vec<String> {
    let text = match outcome {
        Ok(answer) => format!("{:#?}", blurred(answer, tolerance)),
        Err(status) => format!("error {:?}\n{}", status.code(), status.message()),
    };
    text.lines().map(str::to_owned).collect()
}

/// An answer without what is tolerated.
pub(crate) fn blurred(answer: &Answer, tolerance: Tolerance) -> Answer {
    let mut answer = answer.clone();
    blur_header(answer.header_mut(), tolerance);
    if let Answer::Txn(txn) = &mut answer {
        blur_all(&mut txn.responses, tolerance);
    }
    answer
}

fn blur_all(responses: &mut [ResponseOp], tolerance: Tolerance) {
    for response in responses {
        match &mut response.response {
            Some(Response::ResponseRange(range)) => blur_header(&mut range.header, tolerance),
            Some(Response::ResponsePut(put)) => blur_header(&mut put.header, tolerance),
            Some(Response::ResponseDeleteRange(delete)) => {
                blur_header(&mut delete.header, tolerance);
            }
            Some(Response::ResponseTxn(txn)) => {
                blur_header(&mut txn.header, tolerance);
                blur_all(&mut txn.responses, tolerance);
            }
            None => {}
        }
    }
}

fn blur_header(header: &mut Option<ResponseHeader>, tolerance: Tolerance) {
    if let Some(header) = header {
        header.member_id = 0;
        header.raft_term = 0;
        if tolerance.cluster_id {
            header.cluster_id = 0;
        }
    }
}
