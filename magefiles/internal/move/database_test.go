package move

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"sigstore-local/magefiles/internal/build"
	"sigstore-local/magefiles/internal/database"
	"sigstore-local/magefiles/internal/platform"
)

// The test binary receives too, so that it can be killed.
func TestMain(m *testing.M) {
	if socket := os.Getenv("RECEIVE_FROM"); socket != "" {
		_, err := ReceiveDatabase(context.Background(), open(socket, "root", ""), os.Stdin)
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func open(socket, user, password string) *sql.DB {
	settings := mysql.NewConfig()
	settings.User, settings.Passwd, settings.Net, settings.Addr, settings.MultiStatements = user, password, "unix", socket, true
	connector, err := mysql.NewConnector(settings)
	if err != nil {
		panic(err)
	}
	return sql.OpenDB(connector)
}

// server runs a MariaDB for a test, and returns its socket. Its largest packet has 8 MiB.
func server(t *testing.T, more ...string) string {
	t.Helper()
	program := platform.FindMariaDB()
	installer := platform.FindMariaDBInstaller(program)
	if testing.Short() || program == "" || installer == "" {
		t.Skip("is slow, and needs MariaDB")
	}
	dir, err := os.MkdirTemp("", "move") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	install := exec.CommandContext(t.Context(), installer, append([]string{"--no-defaults", "--datadir=" + filepath.Join(dir, "data"), "--auth-root-authentication-method=normal",
		"--skip-test-db", "--skip-name-resolve", "--force", "--innodb-log-file-size=4M"}, database.RootArgs()...)...)
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	socket := filepath.Join(dir, "socket")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, append(append([]string{"--no-defaults", "--datadir=" + filepath.Join(dir, "data"), "--socket=" + socket, "--skip-networking",
		"--skip-name-resolve", "--innodb-log-file-size=4M", "--innodb-flush-log-at-trx-commit=0", "--max-allowed-packet=8M"}, more...), database.RootArgs()...)...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	db := open(socket, "root", "")
	defer db.Close()
	deadline := time.After(2 * time.Minute)
	for db.Ping() != nil {
		select {
		case <-time.After(100 * time.Millisecond):
			continue
		case <-ended:
		case <-deadline:
		}
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("MariaDB is not ready: %s", text)
	}
	return socket
}

func exe(t *testing.T, db *sql.DB, statement string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%.200s: %v", statement, err)
	}
}

var allNames = database.Names()

// others are Rekor's and Dex's tables, as those make them, and columns of every kind.
const others = `
CREATE DATABASE rekor CHARACTER SET utf8mb4;
CREATE DATABASE dex CHARACTER SET utf8mb4;
USE rekor;
CREATE TABLE EntryIndex (
	EntryKey varchar(512) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL,
	EntryUUID char(80) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	PRIMARY KEY(EntryKey, EntryUUID));
USE dex;
CREATE TABLE migrations (num integer not null, at datetime(3) not null);
CREATE TABLE ` + "`keys`" + ` (id varchar(384) not null primary key, signing_key blob not null, next_rotation datetime(3) not null default '1000-01-01 00:00:00');
CREATE TABLE odd (
	id INTEGER NOT NULL AUTO_INCREMENT PRIMARY KEY, b LONGBLOB, t LONGTEXT, j JSON, at TIMESTAMP NULL DEFAULT '0000-00-00 00:00:00', d DATE, n DECIMAL(30,10), f DOUBLE,
	u BIGINT UNSIGNED, bits BIT(12), e ENUM('x','y'), latin VARCHAR(20) CHARACTER SET latin1, fixed BINARY(4), ` + "`a ``quoted`` name`" + ` TINYINT(1) DEFAULT 1,
	later TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, twice BIGINT AS (LENGTH(b) * 2) STORED, again INT AS (LENGTH(t) + 1) VIRTUAL);
CREATE VIEW seen AS SELECT id FROM odd;
`

// fillDatabase makes a stack's tables, and puts into them what is hard to move.
func fillDatabase(t *testing.T, db *sql.DB) {
	t.Helper()
	folder, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/trillian").Output()
	if err != nil {
		t.Fatal(err)
	}
	schema, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(folder)), build.SchemaSource))
	if err != nil {
		t.Fatal(err)
	}
	exe(t, db, "SET GLOBAL sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'")
	db.SetMaxIdleConns(0) // for the mode to hold
	exe(t, db, "CREATE DATABASE trillian CHARACTER SET utf8mb4; USE trillian;\n"+string(schema))
	exe(t, db, others)
	bytes256 := make([]byte, 256)
	for i := range bytes256 {
		bytes256[i] = byte(i)
	}
	for id, name := range map[int64]string{1<<62 + 1: "rekor", 3: "ctfe"} {
		exe(t, db, "INSERT INTO trillian.Trees VALUES (?, 'ACTIVE', 'LOG', 'RFC6962_SHA256', 'SHA256', 'ECDSA', ?, NULL, 1, 1, 0, '', ?, NULL, NULL)", id, name, bytes256)
		exe(t, db, "INSERT INTO trillian.TreeControl VALUES (?, TRUE, TRUE, 0)", id)
		for i := range 3 { // the newest is not the last
			exe(t, db, "INSERT INTO trillian.TreeHead VALUES (?, ?, ?, ?, '', ?)", id, 100-i, 700-i, bytes256[i:i+32], i)
		}
		for from := 0; from < 700; from += 100 {
			var rows, sequenced []string
			for i := from; i < from+100; i++ {
				rows = append(rows, fmt.Sprintf("(%d, UNHEX(SHA2('%d', 256)), REPEAT(UNHEX(SHA2('v%d', 256)), %d), IF(%d %% 3, NULL, ''), %d)", id, i, i, i%50, i, i))
				sequenced = append(sequenced, fmt.Sprintf("(%d, %d, UNHEX(SHA2('%d', 256)), 'merkle', 5)", id, i, i))
			}
			exe(t, db, "INSERT INTO trillian.LeafData VALUES "+strings.Join(rows, ","))
			exe(t, db, "INSERT INTO trillian.SequencedLeafData VALUES "+strings.Join(sequenced, ","))
		}
		exe(t, db, "INSERT INTO trillian.Subtree VALUES (?, ?, ?, 0), (?, '', '', 0)", id, bytes256[:255], bytes.Repeat(bytes256, 10_000), id)
	}
	// More than a packet has room for, in rows as many as one INSERT takes.
	exe(t, db, "INSERT INTO trillian.Subtree SELECT 3, CONCAT('x', SequenceNumber), REPEAT('x', 40000), 0 FROM trillian.SequencedLeafData WHERE TreeId = 3 AND SequenceNumber < 300")
	exe(t, db, "INSERT INTO rekor.EntryIndex VALUES ('b', 'u'), ('a', 'u'), ('B', 'v'), ('é🔏', 'u'), ('', ''), ('Z', '1'), ('z ', '2')")
	exe(t, db, "INSERT INTO dex.migrations VALUES (2, NOW(3)), (1, '2026-02-03 04:05:06.789'), (2, '0000-00-00')")
	exe(t, db, "INSERT INTO dex.`keys` VALUES ('openid-connect-keys', ?, '0000-00-00')", bytes256)
	const columns = "INSERT INTO dex.odd (id, b, t, j, at, d, n, f, u, bits, e, latin, fixed, `a ``quoted`` name`, later) VALUES "
	exe(t, db, columns+`(0, ?, 'a "quoted" \'text\'\\ 🔏', '{"a": [1, null]}', '0000-00-00', '2026-02-30', 12345678901234567890.0123456789, 0.1, 18446744073709551615, b'100000000001', 'y', 'é', 'a', NULL, '2020-01-01')`, bytes256)
	exe(t, db, columns+"(-5, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '2020-01-01')")
	exe(t, db, columns+"(7, '', '', '[]', '2026-07-01 12:00:00', '0000-00-00', 0, -1e300, 0, 0, 'x', '', '', 0, '2020-01-01')")
	exe(t, db, "INSERT INTO dex.odd (id, b) VALUES (8, ?)", bytes.Repeat(bytes256, 5<<20/256))
}

func sentDatabase(t *testing.T, db *sql.DB) ([]byte, Digest) {
	t.Helper()
	var stream bytes.Buffer
	digest, err := SendDatabase(t.Context(), db, allNames, &stream)
	if err != nil {
		t.Fatal(err)
	}
	return stream.Bytes(), digest
}

func databaseMarked(t *testing.T, db *sql.DB) bool {
	t.Helper()
	ok, err := DatabaseReceived(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func clear(t *testing.T, db *sql.DB) {
	t.Helper()
	for _, name := range allNames {
		exe(t, db, "DROP DATABASE IF EXISTS "+name)
	}
}

// checksums are the server's own of all tables, and their definitions.
func checksums(t *testing.T, db *sql.DB) map[string]string {
	t.Helper()
	sums := map[string]string{}
	rows, err := db.QueryContext(t.Context(), "SELECT CONCAT(TABLE_SCHEMA, '.`', TABLE_NAME, '`') FROM information_schema.TABLES "+
		"WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA IN ('trillian', 'rekor', 'dex') AND TABLE_NAME <> 'received'")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var table, name, sum, create string
		if err := rows.Scan(&table); err != nil {
			t.Fatal(err)
		}
		if err := db.QueryRowContext(t.Context(), "CHECKSUM TABLE "+table+" EXTENDED").Scan(&name, &sum); err != nil {
			t.Fatal(err)
		}
		if err := db.QueryRowContext(t.Context(), "SHOW CREATE TABLE "+table).Scan(&name, &create); err != nil {
			t.Fatal(err)
		}
		sums[table] = sum + " " + strings.NewReplacer("`", "", `"`, "").Replace(create) // one server has ANSI_QUOTES
	}
	return sums
}

// One test, since servers are slow to start.
func TestDatabases(t *testing.T) {
	from, socket := open(server(t), "root", ""), server(t, "--character-set-server=utf8mb4", "--collation-server=utf8mb4_unicode_ci", "--sql-mode=TRADITIONAL,ANSI_QUOTES", "--default-time-zone=+05:30")
	to := open(socket, "root", "")
	defer from.Close()
	defer to.Close()
	fillDatabase(t, from)
	stream, digest := sentDatabase(t, from)
	t.Run("HaveTheirPartsInTheDigest", func(t *testing.T) {
		rows := map[string]int64{}
		for _, part := range digest.Parts {
			rows[part.Name] = part.Rows
		}
		if want := (map[string]int64{"dex.keys": 1, "dex.migrations": 3, "dex.odd": 4, "rekor.EntryIndex": 7, "trillian.LeafData": 1400, "trillian.SequencedLeafData": 1400,
			"trillian.Subtree": 304, "trillian.TreeControl": 2, "trillian.TreeHead": 6, "trillian.Trees": 2, "trillian.Unsequenced": 0}); !reflect.DeepEqual(rows, want) {
			t.Errorf("the digest has %v", rows)
		}
		const root = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
		if want := []Tree{{"ctfe", 3, 700, root}, {"rekor", 1<<62 + 1, 700, root}}; !reflect.DeepEqual(digest.Trees, want) {
			t.Errorf("the trees are %v", digest.Trees)
		}
		if _, again := sentDatabase(t, from); !again.Equal(digest) {
			t.Errorf("sent again, the digest is %v", again)
		}
	})
	t.Run("AreWholeOrNotMarked", func(t *testing.T) {
		if databaseMarked(t, to) {
			t.Error("nothing is there, and it is marked")
		}
		for _, cut := range []int{0, 10, 2000, len(stream) / 3, len(stream) - 1} {
			if _, err := ReceiveDatabase(t.Context(), to, bytes.NewReader(stream[:cut])); err == nil || databaseMarked(t, to) {
				t.Errorf("cut after %d of %d bytes: %v", cut, len(stream), err)
			}
		}
		other := bytes.Clone(stream)
		other[bytes.Index(other, []byte{0xfd, 0xfe, 0xff, 0x00, 0x01})] ^= 1
		if _, err := ReceiveDatabase(t.Context(), to, bytes.NewReader(other)); err == nil || databaseMarked(t, to) {
			t.Errorf("another byte: %v", err)
		}
		// What the server has changed is noticed too.
		r := &late{bytes.NewReader(stream[:len(stream)-100]), stream[len(stream)-100:], func() { exe(t, to, "UPDATE rekor.EntryIndex SET EntryUUID = 'w' WHERE EntryKey = 'a'") }}
		if _, err := ReceiveDatabase(t.Context(), to, r); err == nil || !strings.Contains(err.Error(), "in the database") || databaseMarked(t, to) {
			t.Errorf("changed on the server: %v", err)
		}
	})
	t.Run("AreReceivedByOneAtATime", func(t *testing.T) {
		var inner error
		r := &late{bytes.NewReader(stream[:len(stream)/2]), stream[len(stream)/2 : len(stream)-1], func() { _, inner = ReceiveDatabase(t.Context(), to, bytes.NewReader(stream)) }}
		if _, err := ReceiveDatabase(t.Context(), to, r); err == nil || inner == nil || !strings.Contains(inner.Error(), "another process") {
			t.Errorf("%v, %v", err, inner)
		}
	})
	t.Run("ArriveAfterAKilledAttempt", func(t *testing.T) {
		clear(t, to)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "RECEIVE_FROM="+socket)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write(stream[:len(stream)*4/5]); err != nil { // more than the first table
			t.Fatal(err)
		}
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
		left := 0
		if err := to.QueryRow("SELECT COUNT(*) FROM dex.odd").Scan(&left); err != nil || left == 0 || databaseMarked(t, to) {
			t.Fatalf("%d rows came: %v", left, err)
		}
		// The server gives up the dead process's lock a moment later.
		got, err := ReceiveDatabase(t.Context(), to, bytes.NewReader(stream))
		for deadline := time.Now().Add(time.Minute); err != nil && strings.Contains(err.Error(), "another process") && time.Now().Before(deadline); {
			time.Sleep(50 * time.Millisecond)
			got, err = ReceiveDatabase(t.Context(), to, bytes.NewReader(stream))
		}
		if err != nil || !got.Equal(digest) || !databaseMarked(t, to) {
			t.Fatalf("%v: %+v", err, got)
		}
		before, after := checksums(t, from), checksums(t, to)
		for name, sum := range before {
			if after[name] != sum {
				t.Errorf("%s: the servers' own checksums or definitions differ: %s, then %s", name, sum, after[name])
			}
		}
		if len(after) != 11 {
			t.Errorf("%d tables arrived", len(after))
		}
		var mark string
		if err := to.QueryRow("SELECT CONCAT(digest, ' ', `rows`) FROM trillian.received").Scan(&mark); err != nil || mark != digest.SHA256+" 3129" {
			t.Errorf("the mark is %q: %v", mark, err)
		}
		if _, again := sentDatabase(t, to); !again.Equal(digest) {
			t.Errorf("sent on: %+v", again)
		}
	})
	t.Run("StayAsTheyAre", func(t *testing.T) {
		exe(t, to, "UPDATE rekor.EntryIndex SET EntryUUID = 'later' WHERE EntryKey = 'a'")
		before := checksums(t, to)
		if got, err := ReceiveDatabase(t.Context(), to, bytes.NewReader(stream)); err != nil || !got.Equal(digest) {
			t.Errorf("the same again: %v", err)
		}
		exe(t, from, "INSERT INTO rekor.EntryIndex VALUES ('new', 'new')")
		other, _ := sentDatabase(t, from)
		if _, err := ReceiveDatabase(t.Context(), to, bytes.NewReader(other)); !errors.Is(err, ErrOther) {
			t.Errorf("other data: %v", err)
		}
		if after := checksums(t, to); !reflect.DeepEqual(before, after) {
			t.Error("the tables were changed")
		}
		// What services have written, before anything was received, is not replaced either.
		exe(t, to, "DROP TABLE trillian.received")
		if _, err := ReceiveDatabase(t.Context(), to, bytes.NewReader(stream)); !errors.Is(err, ErrOther) || databaseMarked(t, to) || !reflect.DeepEqual(before, checksums(t, to)) {
			t.Errorf("a live database: %v", err)
		}
	})
	t.Run("NeedNoAccountThatMakesThem", func(t *testing.T) {
		clear(t, to)
		exe(t, to, "CREATE USER mover@localhost IDENTIFIED BY 'secret'")
		mover := open(socket, "mover", "secret")
		defer mover.Close()
		if _, err := ReceiveDatabase(t.Context(), mover, bytes.NewReader(stream)); err == nil || databaseMarked(t, to) {
			t.Error("an account without rights")
		}
		for _, name := range allNames {
			exe(t, to, "CREATE DATABASE "+name+"; GRANT ALL ON "+name+".* TO mover@localhost")
		}
		// Rows of 5 MiB go through a packet of 6.
		exe(t, to, "SET GLOBAL max_allowed_packet = 6 << 20")
		if got, err := ReceiveDatabase(t.Context(), mover, bytes.NewReader(stream)); err != nil || !got.Equal(digest) || !databaseMarked(t, mover) {
			t.Errorf("%v", err)
		}
		clear(t, to)
		exe(t, to, "SET GLOBAL max_allowed_packet = 4 << 20")
		small := open(socket, "root", "")
		defer small.Close()
		if _, err := ReceiveDatabase(t.Context(), small, bytes.NewReader(stream)); err == nil || !strings.Contains(err.Error(), "max_allowed_packet higher") {
			t.Errorf("a row that is larger than a packet: %v", err)
		}
	})
}

func TestOtherTablesAreRefused(t *testing.T) {
	good := table{Database: "dex", Name: "t", Create: "CREATE TABLE `t` (a INT)", Columns: []column{{Name: "a"}}}
	bad := func(change func(*table)) table { one := good; change(&one); return one }
	for _, first := range []message{
		{Databases: []string{"mysql"}}, {Databases: []string{"Information_Schema"}}, {Databases: []string{""}},
		{Databases: []string{"dex"}, Tables: []table{bad(func(t *table) { t.Database = "rekor" })}},
		{Databases: []string{"dex"}, Tables: []table{bad(func(t *table) { t.Create = "DROP DATABASE dex" })}},
		{Databases: []string{"dex"}, Tables: []table{bad(func(t *table) { t.Columns = nil })}},
		{Databases: []string{"trillian"}, Tables: []table{{"trillian", "received", "CREATE TABLE `received` (a INT)", good.Columns}}},
	} {
		var stream bytes.Buffer
		if err := gob.NewEncoder(&stream).Encode(first); err != nil {
			t.Fatal(err)
		}
		if _, err := ReceiveDatabase(t.Context(), nil, &stream); err == nil || !strings.Contains(err.Error(), "of a stack's") {
			t.Errorf("%+v: %v", first, err)
		}
	}
	if err := check(message{Databases: []string{"dex"}, Tables: []table{good}}); err != nil {
		t.Error(err)
	}
	if _, err := ReceiveDatabase(t.Context(), nil, strings.NewReader("")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("an empty stream: %v", err)
	}
}

func TestStatementsForMySQLHaveNothingOfMariaDBAlone(t *testing.T) {
	for create, want := range map[string]string{
		"CREATE TABLE `t` (`a` varchar(9) COLLATE utf8mb4_uca1400_ai_ci) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_uca1400_nopad_as_cs": "CREATE TABLE `t` (`a` varchar(9) COLLATE utf8mb4_0900_ai_ci) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_as_cs",
		") ENGINE=Aria DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci PAGE_CHECKSUM=1 TRANSACTIONAL=0":                                          ") ENGINE=Aria DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci",
	} {
		if got := forMySQL(create); got != want {
			t.Errorf("got %s", got)
		}
	}
}

func TestTheOrderOfRowsIsTheSameOnEachServer(t *testing.T) {
	one := table{Database: "d", Name: "t", Columns: []column{{"a", "blob", 0}, {"b", "bigint", 2}, {"c", "varchar", 1}}}
	if got, want := one.query(), "SELECT `a`, `b`, `c` FROM `d`.`t` ORDER BY CAST(`c` AS BINARY), `b`"; got != want {
		t.Errorf("got %s", got)
	}
	one.Columns = []column{{"a", "int", 0}, {"b", "longtext", 0}}
	if got, want := one.query(), "SELECT `a`, `b` FROM `d`.`t` ORDER BY `a`, CAST(`b` AS BINARY)"; got != want {
		t.Errorf("got %s", got)
	}
}
