//! Each fault does what it says.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, timeout},
};

use super::*;
use crate::poll::{LONG, eventually};

/// Somebody who says everything twice, and a connection to them.
async fn echo() -> (Wire, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut piece = [0; 16];
                while let Ok(length @ 1..) = stream.read(&mut piece).await {
                    let twice = [&piece[..length], &piece[..length]].concat();
                    stream.write_all(&twice).await.unwrap();
                }
            });
        }
    });
    let wire = Wire::to(&url);
    let stream = connect(&wire).await;
    (wire, stream)
}

async fn connect(wire: &Wire) -> TcpStream {
    TcpStream::connect(wire.address).await.unwrap()
}

async fn say(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"ab").await?;
    let mut answer = [0; 4];
    timeout(LONG, stream.read_exact(&mut answer))
        .await
        .unwrap()?;
    assert_eq!(&answer, b"abab");
    Ok(())
}

#[tokio::test]
async fn without_a_fault_everything_goes_through() {
    let (_wire, mut stream) = echo().await;
    say(&mut stream).await.unwrap();
    say(&mut stream).await.unwrap();
}

#[tokio::test]
async fn a_cut_resets_what_is_open_and_what_is_new() {
    let (wire, mut stream) = echo().await;
    say(&mut stream).await.unwrap();
    wire.set(Fault::Cut);
    let end = timeout(LONG, stream.read(&mut [0; 4])).await.unwrap();
    assert!(end.is_err(), "{end:?}");
    // The reset may come before the connection is there.
    if let Ok(mut another) = TcpStream::connect(wire.address).await {
        say(&mut another).await.unwrap_err();
    }
    wire.set(Fault::None);
    say(&mut connect(&wire).await).await.unwrap();
}

#[tokio::test]
async fn what_swallows_loses_bytes_and_the_connection_in_the_end() {
    for (fault, lost) in [(Fault::Swallow, 2), (Fault::DropAnswers, 4)] {
        let (wire, mut stream) = echo().await;
        say(&mut stream).await.unwrap();
        wire.set(fault);
        stream.write_all(b"ab").await.unwrap();
        eventually("the loss", || async {
            if wire.swallowed() == lost {
                Ok(())
            } else {
                Err(wire.swallowed())
            }
        })
        .await;
        wire.set(Fault::None);
        let end = timeout(LONG, stream.read(&mut [0; 4])).await.unwrap();
        assert!(end.is_err(), "{fault:?}: {end:?}");
        say(&mut connect(&wire).await).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_late_is_late_and_in_order() {
    let (wire, mut stream) = echo().await;
    let late = Duration::from_millis(50);
    wire.set(Fault::Delay(late, late * 2));
    let begun = Instant::now();
    say(&mut stream).await.unwrap();
    assert!(begun.elapsed() >= late * 2, "once each way");
    wire.set(Fault::Throttle(100));
    let begun = Instant::now();
    for _ in 0..3 {
        say(&mut stream).await.unwrap();
    }
    assert!(
        begun.elapsed() >= Duration::from_millis(80),
        "two pieces of four bytes before"
    );
    wire.set(Fault::None);
    say(&mut stream).await.unwrap();
}
