//! A request that is no message ends its stream.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_read_ends_the_stream() {
    let (keyloom, _stores) = three().await;
    let mut stream = keyloom.open_watch().await;
    stream.send_raw(Bytes::from_static(&[0xff; 12]));
    assert_eq!(stream.end().await.code(), Code::Internal);
    keyloom.ask(&put(TENANT, "2")).await.unwrap();
}
