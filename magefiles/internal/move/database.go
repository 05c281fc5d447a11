package move

import (
	"bufio"
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// The stream of databases is a sequence of messages, by encoding/gob: the databases and tables, then each row of each table, then
// the digest.
// A table's digest is of its name and those of its columns, and of each row: its values, as fields, with the length -1 for NULL.
type message struct {
	Databases []string
	Tables    []table
	Table     int // the index in Tables of the table that Row is of
	Row       []value
	Summary   *Digest
}

type value struct {
	Null bool
	Data []byte
}

type table struct {
	Database, Name string
	Create         string // the statement that makes it
	Columns        []column
}

// column is a column with values of its own, unlike those that the server computes.
type column struct {
	Name, Type string
	Key        int // its place in the primary key, from 1
}

// The table that marks what is whole by its one row. It is there, and empty, from before anything is changed.
const (
	markDatabase = "trillian"
	markTable    = "received"
	markName     = markDatabase + "." + markTable
)

// Error numbers of MariaDB and MySQL.
const (
	errNoDatabase = 1049
	errNoTable    = 1146
)

func isError(err error, numbers ...uint16) bool {
	serverErr := (*mysql.MySQLError)(nil)
	return errors.As(err, &serverErr) && slices.Contains(numbers, serverErr.Number)
}

func quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

func (t table) quoted() string { return quote(t.Database) + "." + quote(t.Name) }

func (t table) columns() string {
	var names []string
	for _, one := range t.Columns {
		names = append(names, quote(one.Name))
	}
	return strings.Join(names, ", ")
}

// query reads the rows in an order that is the same on each server, by the primary key, or by all columns if there is none. That of
// text is the order of its bytes: servers differ in collations.
func (t table) query() string {
	keys := slices.DeleteFunc(slices.Clone(t.Columns), func(c column) bool { return c.Key == 0 })
	slices.SortFunc(keys, func(a, b column) int { return a.Key - b.Key })
	if len(keys) == 0 {
		keys = t.Columns
	}
	var order []string
	for _, one := range keys {
		if strings.HasSuffix(one.Type, "char") || strings.HasSuffix(one.Type, "text") {
			order = append(order, "CAST("+quote(one.Name)+" AS BINARY)")
		} else {
			order = append(order, quote(one.Name))
		}
	}
	return "SELECT " + t.columns() + " FROM " + t.quoted() + " ORDER BY " + strings.Join(order, ", ")
}

// session is a connection with the same settings on each server. It is closed for good by end, with its settings and locks.
func session(ctx context.Context, db *sql.DB) (conn *sql.Conn, end func(), err error) {
	if conn, err = db.Conn(ctx); err != nil {
		return nil, nil, err
	}
	end = func() {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		_ = conn.Close()
	}
	// Any date and any number can be kept as it is, and what cannot is an error. Times are not converted.
	for _, statement := range []string{
		"SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', time_zone = '+00:00', foreign_key_checks = 0",
		"SET NAMES utf8mb4",
		"SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
	} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			end()
			return nil, nil, err
		}
	}
	return conn, end, nil
}

// SendDatabase writes all tables of the databases, as they are at one moment. db must not have the driver's option parseTime.
func SendDatabase(ctx context.Context, db *sql.DB, names []string, w io.Writer) (Digest, error) {
	digest, err := sendDatabase(ctx, db, names, w)
	if err != nil {
		return Digest{}, fmt.Errorf("send the databases %s: %w", strings.Join(names, ", "), err)
	}
	return digest, nil
}

func sendDatabase(ctx context.Context, db *sql.DB, names []string, w io.Writer) (Digest, error) {
	conn, end, err := session(ctx, db)
	if err != nil {
		return Digest{}, err
	}
	defer end()
	if _, err := conn.ExecContext(ctx, "START TRANSACTION WITH CONSISTENT SNAPSHOT"); err != nil {
		return Digest{}, err
	}
	var tables []table
	names = slices.Sorted(slices.Values(names))
	for _, name := range names {
		found, err := tablesOf(ctx, conn, name)
		if err != nil {
			return Digest{}, err
		}
		tables = append(tables, found...)
	}
	buffer := bufio.NewWriter(w)
	out := gob.NewEncoder(buffer)
	if err := out.Encode(message{Databases: names, Tables: tables}); err != nil {
		return Digest{}, err
	}
	digest, err := digestTables(ctx, conn, tables, func(table int, row []value) error {
		return out.Encode(message{Table: table, Row: row})
	})
	if err != nil {
		return Digest{}, err
	}
	return digest, errors.Join(out.Encode(message{Summary: &digest}), buffer.Flush())
}

// tablesOf are the tables of a database, in the order of their names' bytes.
func tablesOf(ctx context.Context, conn *sql.Conn, database string) (tables []table, err error) {
	rows, err := conn.QueryContext(ctx, "SELECT t.TABLE_NAME, c.COLUMN_NAME, c.DATA_TYPE, c.EXTRA, COALESCE(k.ORDINAL_POSITION, 0) "+
		"FROM information_schema.TABLES t JOIN information_schema.COLUMNS c USING (TABLE_SCHEMA, TABLE_NAME) "+
		"LEFT JOIN information_schema.KEY_COLUMN_USAGE k ON k.CONSTRAINT_NAME = 'PRIMARY' "+
		"AND k.TABLE_SCHEMA = c.TABLE_SCHEMA AND k.TABLE_NAME = c.TABLE_NAME AND k.COLUMN_NAME = c.COLUMN_NAME "+
		"WHERE t.TABLE_TYPE = 'BASE TABLE' AND t.TABLE_SCHEMA = ? ORDER BY CAST(t.TABLE_NAME AS BINARY), c.ORDINAL_POSITION", database)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name, extra string
		var c column
		if err := rows.Scan(&name, &c.Name, &c.Type, &extra, &c.Key); err != nil {
			return nil, err
		}
		if database == markDatabase && name == markTable {
			continue
		}
		if len(tables) == 0 || tables[len(tables)-1].Name != name {
			tables = append(tables, table{Database: database, Name: name})
		}
		if c.Type == "float" { // its text has fewer digits than it
			return nil, fmt.Errorf("the column %s of %s.%s is a FLOAT, which no server reads out exactly", c.Name, database, name)
		}
		if !strings.Contains(extra, " GENERATED") { // unlike DEFAULT_GENERATED
			t := &tables[len(tables)-1]
			t.Columns = append(t.Columns, c)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for i := range tables {
		var name string
		if err := conn.QueryRowContext(ctx, "SHOW CREATE TABLE "+tables[i].quoted()).Scan(&name, &tables[i].Create); err != nil {
			return nil, err
		}
	}
	return tables, nil
}

// digestTables reads the tables, one row at a time, which is also given to each.
func digestTables(ctx context.Context, conn *sql.Conn, tables []table, each func(table int, row []value) error) (d Digest, err error) {
	for i, t := range tables {
		part, err := digestTable(ctx, conn, t, func(row []value) error { return each(i, row) })
		if err != nil {
			return d, fmt.Errorf("read %s.%s: %w", t.Database, t.Name, err)
		}
		d.Parts = append(d.Parts, part)
	}
	d.Trees, err = treesOf(ctx, conn, tables)
	if err != nil {
		return d, fmt.Errorf("read the tree heads: %w", err)
	}
	return d.seal()
}

func digestTable(ctx context.Context, conn *sql.Conn, t table, each func(row []value) error) (Part, error) {
	rows, err := conn.QueryContext(ctx, t.query())
	if err != nil {
		return Part{}, err
	}
	defer rows.Close()
	count := newTableCounter(t)
	raw, into, row := make([]sql.RawBytes, len(t.Columns)), make([]any, len(t.Columns)), make([]value, len(t.Columns))
	for i := range raw {
		into[i] = &raw[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return Part{}, err
		}
		for i, data := range raw {
			row[i] = value{data == nil, data}
		}
		count.row(row)
		if err := each(row); err != nil {
			return Part{}, err
		}
	}
	return count.done(), rows.Err()
}

func newTableCounter(t table) *counter {
	c := newCounter(t.Database + "." + t.Name)
	c.field([]byte(c.part.Name))
	for _, one := range t.Columns {
		c.field([]byte(one.Name))
	}
	return c
}

func (c *counter) row(row []value) {
	for _, one := range row {
		if one.Null {
			c.length(-1)
			continue
		}
		c.field(one.Data)
		c.part.Bytes += int64(len(one.Data))
	}
	c.part.Rows++
}

// treesOf are the newest heads of Trillian's trees, if its tables are among these.
func treesOf(ctx context.Context, conn *sql.Conn, tables []table) (trees []Tree, err error) {
	if !slices.ContainsFunc(tables, func(t table) bool { return t.Database == "trillian" && t.Name == "TreeHead" }) {
		return nil, nil
	}
	rows, err := conn.QueryContext(ctx, "SELECT COALESCE(DisplayName, ''), TreeId, COALESCE(TreeSize, 0), RootHash FROM trillian.Trees JOIN trillian.TreeHead h USING (TreeId) "+
		"WHERE TreeHeadTimestamp = (SELECT MAX(TreeHeadTimestamp) FROM trillian.TreeHead WHERE TreeId = h.TreeId) ORDER BY TreeId")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var one Tree
		var root []byte
		if err := rows.Scan(&one.Name, &one.ID, &one.Size, &root); err != nil {
			return nil, err
		}
		one.Root = hex.EncodeToString(root)
		trees = append(trees, one)
	}
	return trees, rows.Err()
}

// DatabaseReceived says whether the databases hold what was received, all of it.
func DatabaseReceived(ctx context.Context, db *sql.DB) (bool, error) {
	rows := 0
	err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+markName).Scan(&rows)
	if isError(err, errNoDatabase, errNoTable) {
		return false, nil
	}
	return rows > 0, err
}

// ReceiveDatabase makes the databases and their tables, which SendDatabase has written.
func ReceiveDatabase(ctx context.Context, db *sql.DB, r io.Reader) (Digest, error) {
	digest, err := receiveDatabase(ctx, db, r)
	if err != nil {
		return Digest{}, fmt.Errorf("receive the databases: %w", err)
	}
	return digest, nil
}

func receiveDatabase(ctx context.Context, db *sql.DB, r io.Reader) (Digest, error) {
	in := gob.NewDecoder(bufio.NewReader(r))
	first, err := next(in)
	if err != nil {
		return Digest{}, err
	}
	tables := first.Tables
	if err := check(first); err != nil {
		return Digest{}, err
	}
	conn, end, err := session(ctx, db)
	if err != nil {
		return Digest{}, err
	}
	defer end()
	var alone bool
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, 0)", markName).Scan(&alone); err != nil || !alone {
		return Digest{}, errors.Join(errors.New("another process is receiving them"), err)
	}
	known, err := prepare(ctx, conn, first)
	if err != nil {
		return Digest{}, err
	}
	if known != "" {
		sent, err := readRows(in, tables, func(int, []value) error { return nil })
		if err == nil && sent.SHA256 != known {
			err = ErrOther
		}
		return sent, err
	}
	rows := inserter{ctx: ctx, conn: conn, tables: tables}
	if err := conn.QueryRowContext(ctx, "SELECT @@max_allowed_packet").Scan(&rows.packet); err != nil {
		return Digest{}, err
	}
	sent, err := readRows(in, tables, rows.add)
	if err == nil {
		err = rows.flush()
	}
	if err != nil {
		return Digest{}, err
	}
	there, err := digestTables(ctx, conn, tables, func(int, []value) error { return nil })
	if err != nil {
		return Digest{}, err
	}
	if !there.Equal(sent) {
		return Digest{}, errors.New("what is in the database is not what was sent")
	}
	total := int64(0)
	for _, part := range sent.Parts {
		total += part.Rows
	}
	_, err = conn.ExecContext(ctx, "INSERT INTO "+markName+" (digest, `rows`) VALUES (?, ?)", sent.SHA256, total)
	return sent, err
}

// check refuses what is of no stack.
func check(first message) error {
	for _, name := range first.Databases {
		if slices.Contains([]string{"", "mysql", "sys", "information_schema", "performance_schema"}, strings.ToLower(name)) {
			return fmt.Errorf("%q is not a database of a stack's", name)
		}
	}
	for _, t := range first.Tables {
		mark := t.Database == markDatabase && t.Name == markTable
		if mark || !slices.Contains(first.Databases, t.Database) || len(t.Columns) == 0 || !strings.HasPrefix(t.Create, "CREATE TABLE "+quote(t.Name)+" (") {
			return fmt.Errorf("%q is not a table of a stack's", t.Database+"."+t.Name)
		}
	}
	return nil
}

// next reads a message. A stream does not end before the digest.
func next(in *gob.Decoder) (m message, err error) {
	if err = in.Decode(&m); errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return m, err
}

// readRows reads the rest of the stream, and compares the digest at its end with that of the rows before it.
func readRows(in *gob.Decoder, tables []table, each func(table int, row []value) error) (Digest, error) {
	var counts []*counter
	for _, t := range tables {
		counts = append(counts, newTableCounter(t))
	}
	for {
		m, err := next(in)
		if err != nil {
			return Digest{}, err
		}
		if m.Summary != nil {
			came := Digest{Trees: m.Summary.Trees} // which the rows tell, once they are in tables
			for _, one := range counts {
				came.Parts = append(came.Parts, one.done())
			}
			came, err := came.seal()
			if err == nil && !came.Equal(*m.Summary) {
				err = errors.New("what came is not what was sent")
			}
			return came, err
		}
		if m.Table < 0 || m.Table >= len(tables) || len(m.Row) != len(tables[m.Table].Columns) {
			return Digest{}, errors.New("a row is of no table")
		}
		counts[m.Table].row(m.Row)
		if err := each(m.Table, m.Row); err != nil {
			return Digest{}, err
		}
	}
}

// prepare makes the tables, empty, unless they are marked: then it returns the digest.
func prepare(ctx context.Context, conn *sql.Conn, first message) (known string, err error) {
	err = conn.QueryRowContext(ctx, "SELECT digest FROM "+markName).Scan(&known)
	switch {
	case err == nil:
		return known, nil
	case isError(err, errNoDatabase, errNoTable):
		for _, t := range first.Tables {
			row := 0
			err := conn.QueryRowContext(ctx, "SELECT 1 FROM "+t.quoted()+" LIMIT 1").Scan(&row)
			if err == nil {
				return "", fmt.Errorf("%s.%s: %w", t.Database, t.Name, ErrOther)
			}
			if !errors.Is(err, sql.ErrNoRows) && !isError(err, errNoDatabase, errNoTable) {
				return "", err
			}
		}
	case !errors.Is(err, sql.ErrNoRows): // which is what an attempt that was interrupted leaves
		return "", err
	}
	var version string
	if err := conn.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
		return "", err
	}
	statements := []string{"CREATE TABLE IF NOT EXISTS " + markName + " (digest CHAR(64) NOT NULL PRIMARY KEY, `rows` BIGINT NOT NULL)"}
	for _, t := range first.Tables {
		create := t.Create
		if !strings.Contains(version, "MariaDB") {
			create = forMySQL(create)
		}
		statements = append(statements, "DROP TABLE IF EXISTS "+t.quoted(), "USE "+quote(t.Database), create)
	}
	for _, name := range append([]string{markDatabase}, first.Databases...) {
		if err := makeDatabase(ctx, conn, name); err != nil {
			return "", err
		}
	}
	for _, statement := range statements {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			what, _, _ := strings.Cut(statement, " (")
			return "", fmt.Errorf("%s: %w", what, err)
		}
	}
	return "", nil
}

// makeDatabase makes a database. An account that may not make any can use one that is there.
func makeDatabase(ctx context.Context, conn *sql.Conn, name string) error {
	_, err := conn.ExecContext(ctx, "CREATE DATABASE IF NOT EXISTS "+quote(name)+" CHARACTER SET utf8mb4")
	if err == nil {
		return nil
	}
	found := 0
	if conn.QueryRowContext(ctx, "SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?", name).Scan(&found) == nil {
		return nil
	}
	return fmt.Errorf("make the database %s: %w: make it, and let this account use all of it", name, err)
}

var (
	mariaCollation = regexp.MustCompile(`(utf8mb[34])_uca1400_(?:nopad_)?(ai_ci|as_ci|as_cs)`)
	mariaOption    = regexp.MustCompile(` (?:PAGE_CHECKSUM|TRANSACTIONAL)=\d`)
)

// forMySQL is a statement of MariaDB's that makes a table, for MySQL: without what only MariaDB has, such as the collations that
// are its defaults since 11.6.
func forMySQL(create string) string {
	return mariaOption.ReplaceAllString(mariaCollation.ReplaceAllString(create, "utf8mb4_0900_$2"), "")
}

// inserter inserts rows, many at once.
type inserter struct {
	ctx    context.Context
	conn   *sql.Conn
	tables []table
	packet int // what the server takes at most at once, in bytes

	table, rows, bytes int // of values
	values             []any
}

// Limits of one INSERT. A prepared statement has at most 65,535 placeholders. Each value takes a few bytes more than its own.
const (
	maxRows     = 500
	maxBytes    = 1 << 20
	placeholder = 16
)

func (b *inserter) add(table int, row []value) error {
	size := 0
	for _, one := range row {
		size += len(one.Data) + placeholder
	}
	if size > b.packet {
		return fmt.Errorf("a row of %s has %d bytes, and the server takes %d at once: set its max_allowed_packet higher", b.tables[table].Name, size, b.packet)
	}
	if table != b.table || b.rows == maxRows || len(b.values)+len(row) > 65535 || b.bytes+size > min(maxBytes, b.packet/2) {
		if err := b.flush(); err != nil {
			return err
		}
	}
	b.table, b.rows, b.bytes = table, b.rows+1, b.bytes+size
	for _, one := range row {
		if one.Null {
			b.values = append(b.values, nil)
		} else {
			b.values = append(b.values, append([]byte{}, one.Data...)) // nil would be NULL
		}
	}
	return nil
}

func (b *inserter) flush() error {
	if b.rows == 0 {
		return nil
	}
	t := b.tables[b.table]
	one := "(" + strings.TrimSuffix(strings.Repeat("?, ", len(t.Columns)), ", ") + ")"
	statement := "INSERT INTO " + t.quoted() + " (" + t.columns() + ") VALUES " + one + strings.Repeat(", "+one, b.rows-1)
	if _, err := b.conn.ExecContext(b.ctx, statement, b.values...); err != nil {
		return fmt.Errorf("insert into %s.%s: %w", t.Database, t.Name, err)
	}
	b.rows, b.bytes, b.values = 0, 0, nil
	return nil
}
