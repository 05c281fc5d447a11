// Package move carries what a stack has signed from one machine to another: the files of a folder, or the tables of a database.
// The sending end writes a stream, the receiving end reads it, reads back what it has written, and compares. Both return a
// Digest, and what both ends hold is the same if their digests are.
//
// What is received is not to be used before it is whole: until then it has no mark, by which FolderReceived and DatabaseReceived
// know it. What was interrupted is received again from its beginning. What is marked, and what is there and did not come by this
// package, is never changed.
package move

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"reflect"
)

// ErrOther says that what is to be received is for a place that holds other data. Nothing was changed.
var ErrOther = errors.New("other data is there already, and nothing was changed")

// Digest says what was moved.
type Digest struct {
	SHA256     string `json:"sha256"` // of the parts, as JSON
	Parts      []Part `json:"parts"`
	Trees      []Tree `json:"trees,omitempty"`      // the heads of the database's Trillian trees, by their IDs
	Checkpoint string `json:"checkpoint,omitempty"` // the folder's file of that name, if it has one: what a log of tiles has signed
}

// Part is a table, or a folder with all that is below it.
type Part struct {
	Name   string `json:"name"` // database.table, or "." for the folder
	Files  int64  `json:"files,omitempty"`
	Rows   int64  `json:"rows,omitempty"`
	Bytes  int64  `json:"bytes"` // of the files, or of all the values
	SHA256 string `json:"sha256"`
}

// Tree is the newest head of a tree of Trillian's.
type Tree struct {
	Name string `json:"name"`
	ID   int64  `json:"id,string"` // is more than a number of JavaScript's can hold
	Size int64  `json:"size"`
	Root string `json:"root"` // in hexadecimal digits
}

// Equal says whether both are digests of the same data.
func (d Digest) Equal(other Digest) bool { return reflect.DeepEqual(d, other) }

// seal completes a digest.
func (d Digest) seal() (Digest, error) {
	text, err := json.Marshal(d.Parts)
	sum := sha256.Sum256(text)
	d.SHA256 = hex.EncodeToString(sum[:])
	return d, err
}

// counter gathers a part. What it hashes is a sequence of fields, each with its length before it as 8 bytes, the highest first.
type counter struct {
	part Part
	hash hash.Hash
}

func newCounter(name string) *counter { return &counter{Part{Name: name}, sha256.New()} }

func (c *counter) length(n int64) {
	c.hash.Write(binary.BigEndian.AppendUint64(nil, uint64(n))) // a hash returns no error
}

func (c *counter) field(content []byte) {
	c.length(int64(len(content)))
	c.hash.Write(content)
}

func (c *counter) done() Part {
	c.part.SHA256 = hex.EncodeToString(c.hash.Sum(nil))
	return c.part
}
