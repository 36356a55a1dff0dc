// Package policy decides which pages of a guest are in a window, as plain
// computation: Frames keeps the books and names the page to go, Streams says
// how many to fill at once. Package window does the work.
//
// Beside them are what the choice was made with: a simulator of the pager, the
// policies that are compared, and the trace of a real guest.
package policy
