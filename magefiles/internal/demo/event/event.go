// Package event has what happens in a demo, in the form in which programs read it: with -o=json a demo prints one Event a line.
package event

// Kind says what has happened, and so which fields of an Event are set.
type Kind string

// The kinds of events. The last event of a demo is Failed, or a Done without a Chapter.
const (
	Chapter Kind = "chapter" // a chapter of the tour begins: Title, About
	Intro   Kind = "intro"   // what holds for all steps that follow: Text and, if there is a command to type first, Command
	Wait    Kind = "wait"    // the tour goes on when it reads a line on standard input, or at the end of the input
	Step    Kind = "step"    // a command is about to run: Why, Command
	Said    Kind = "said"    // the step's command has ended as it should: Said, Drawing; if it had to be refused, Refused and Line
	Look    Kind = "look"    // what to look at in what the last step said: Text
	Attack  Kind = "attack"  // an attack was made and noticed: Attack, Did, Command, Said, Line, Who, Because
	SignIn  Kind = "sign-in" // the step's command waits until a person has signed in: Text says where and how, in several lines
	Done    Kind = "done"    // the chapter or, without a Chapter, the demo has ended as it should: Text
	Failed  Kind = "failed"  // the demo has failed and ends: Text is the error
)

// Event is something that happens in a demo. Commands and their output may hold any text that is in a log or a certificate, and
// that is anybody's. Fields that are empty are left out of the JSON.
type Event struct {
	Kind    Kind `json:"kind"`
	Chapter int  `json:"chapter,omitempty"` // the chapter of the tour, from 1; 0 in any other demo
	Step    int  `json:"step,omitempty"`    // the step or attack, from 1 in each chapter; 0 before the first, in Done and in Failed

	Title string `json:"title,omitempty"` // of a chapter
	About string `json:"about,omitempty"` // what a chapter is about, in one sentence

	Why     string `json:"why,omitempty"`     // what the command of a step is for
	Command string `json:"command,omitempty"` // what a person would type; for some attacks it is a request of HTTP, in words
	Said    string `json:"said,omitempty"`    // what the command printed, on standard output and standard error
	Drawing bool   `json:"drawing,omitempty"` // Said is a drawing: its lines are to be shown whole, and none of them left out
	Refused bool   `json:"refused,omitempty"` // the command had to be refused, and was
	Line    string `json:"line,omitempty"`    // the line of Said with the words in which the command or the attack was refused
	Text    string `json:"text,omitempty"`

	Attack  string `json:"attack,omitempty"`  // the attack's name, as -only takes it
	Did     string `json:"did,omitempty"`     // what the attacker did
	Who     string `json:"who,omitempty"`     // who noticed the attack
	Because string `json:"because,omitempty"` // why it is noticed
}
