//! The reads of sqlx and redis-rs that `make bench PEERS=rust` compares with the data access.
//!
//! The environment has the settings. Each line of input is the name of a read and a number of calls. The answer is a
//! line with the seconds that one call took.

use std::{env, error::Error, fs, hint::black_box, io, time::Instant};

use redis::{aio::MultiplexedConnection, AsyncCommands, Client, TlsCertificates};
use serde::Deserialize;
use sqlx::{
    postgres::PgPool,
    types::{
        chrono::{DateTime, Utc},
        Json,
    },
    AssertSqlSafe,
};

/// A user as `find_user_by_github_id` returns it: the columns in order.
type Row = (
    i64,
    i64,
    String,
    Option<String>,
    Json<serde_json::Value>,
    DateTime<Utc>,
    DateTime<Utc>,
    i64,
);

#[derive(Deserialize)]
#[allow(dead_code)]
struct User {
    id: i64,
    github_id: i64,
    username: String,
    email: Option<String>,
    preferences: serde_json::Value,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    row_version: i64,
}

struct Peers {
    redis: MultiplexedConnection,
    key: String,
    pool: PgPool,
    sql: String,
}

impl Peers {
    async fn connect() -> Result<Self, Box<dyn Error>> {
        let certificates = TlsCertificates {
            client_tls: None,
            root_cert: Some(fs::read(env::var("PEER_REDIS_CA")?)?),
        };
        let client = Client::build_with_tls(env::var("PEER_REDIS_URL")?, certificates)?;
        Ok(Self {
            redis: client.get_multiplexed_async_connection().await?,
            key: env::var("PEER_REDIS_KEY")?,
            pool: PgPool::connect(&env::var("PEER_DATABASE_URL")?).await?,
            sql: env::var("PEER_SQL")?,
        })
    }

    async fn hit(&mut self) -> Result<User, Box<dyn Error>> {
        let value: Vec<u8> = self.redis.get(&self.key).await?;
        Ok(serde_json::from_slice(&value)?)
    }

    async fn read(&self) -> Result<Row, Box<dyn Error>> {
        let sql = AssertSqlSafe(self.sql.as_str());
        Ok(sqlx::query_as(sql).bind(1i64).fetch_one(&self.pool).await?)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut peers = Peers::connect().await?;
    let mut line = String::new();
    while io::stdin().read_line(&mut line)? > 0 {
        let (name, calls) = line.trim().split_once(' ').ok_or("a line is a name and a number")?;
        let calls: u32 = calls.parse()?;
        let started = Instant::now();
        for _ in 0..calls {
            match name {
                "hit" => drop(black_box(peers.hit().await?)),
                "read" => drop(black_box(peers.read().await?)),
                _ => return Err(format!("no read has the name {name}").into()),
            }
        }
        println!("{:e}", (started.elapsed() / calls).as_secs_f64());
        line.clear();
    }
    Ok(())
}
