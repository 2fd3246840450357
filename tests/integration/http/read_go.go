// Reads `LENGTH\n` and so many bytes, again and again; answers each with what net/http makes of them.
package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
)

type message struct {
	Method  string      `json:"method"`
	Target  string      `json:"target"`
	Headers [][2]string `json:"headers"`
	Body    string      `json:"body"`
}

type answer struct {
	Messages []message `json:"messages"`
	Bad      bool      `json:"bad"`
}

func read(data []byte) answer {
	got := answer{Messages: []message{}}
	in := bufio.NewReader(bytes.NewReader(data))
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			got.Bad = err != io.EOF && err != io.ErrUnexpectedEOF
			return got
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			got.Bad = err != io.EOF && err != io.ErrUnexpectedEOF
			return got
		}
		m := message{Method: req.Method, Target: req.RequestURI, Body: hex.EncodeToString(body)}
		m.Headers = append(m.Headers, [2]string{"Host", req.Host})
		for name, values := range req.Header {
			for _, v := range values {
				m.Headers = append(m.Headers, [2]string{name, v})
			}
		}
		if req.TransferEncoding != nil {
			m.Headers = append(m.Headers, [2]string{"Transfer-Encoding", req.TransferEncoding[0]})
		}
		got.Messages = append(got.Messages, m)
	}
}

func main() {
	in := bufio.NewReader(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for {
		var length int
		if _, err := fmt.Fscanf(in, "%d\n", &length); err != nil {
			return
		}
		data := make([]byte, length)
		if _, err := io.ReadFull(in, data); err != nil {
			return
		}
		out.Encode(read(data))
	}
}
