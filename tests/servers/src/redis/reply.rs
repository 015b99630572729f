//! One command over a connection of its own: what setting servers up takes, and no client for anything else.

use std::{io, pin::Pin, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

/// How long a server may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// What Redis answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A status or a string.
    Text(String),
    /// A number.
    Number(i64),
    /// Nothing.
    Nil,
    /// Many.
    List(Vec<Reply>),
    /// A refusal.
    Error(String),
}

impl Reply {
    /// The text of a status or string.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            other => panic!("{other:?} is no text"),
        }
    }

    /// The members of a list.
    pub fn list(&self) -> &[Reply] {
        match self {
            Self::List(list) => list,
            other => panic!("{other:?} is no list"),
        }
    }
}

/// Asks the server on a port of 127.0.0.1.
pub(super) async fn ask(port: u16, words: &[&str]) -> io::Result<Reply> {
    let asked = async {
        let mut connection = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?);
        let words: Vec<String> = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        let request = format!("*{}\r\n{}", words.len(), words.concat());
        connection.write_all(request.as_bytes()).await?;
        read(&mut connection).await
    };
    tokio::time::timeout(ANSWER, asked).await.map_err(|_| io::ErrorKind::TimedOut)?
}

fn read(connection: &mut BufReader<TcpStream>) -> Pin<Box<dyn Future<Output = io::Result<Reply>> + Send + '_>> {
    Box::pin(async move {
        let mut line = String::new();
        if connection.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (kind, rest) = line.trim_end().split_at(1);
        let number = || rest.parse::<i64>().map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
        Ok(match kind {
            "+" => Reply::Text(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Number(number()?),
            "$" | "*" if number()? < 0 => Reply::Nil,
            "$" => {
                let mut text = vec![0; number()? as usize + 2];
                connection.read_exact(&mut text).await?;
                text.truncate(text.len() - 2);
                Reply::Text(String::from_utf8_lossy(&text).into_owned())
            }
            "*" => {
                let mut list = Vec::new();
                for _ in 0..number()? {
                    list.push(read(connection).await?);
                }
                Reply::List(list)
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        })
    })
}
