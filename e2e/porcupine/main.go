// Command porcupine says whether a history of reads and writes of registers is linearizable.
//
// It reads one operation a line of JSON from standard input; an operation without a return is one whose outcome nobody
// knows.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/anishathalye/porcupine"
)

type operation struct {
	Client int    `json:"client"`
	Key    string `json:"key"`
	Write  bool   `json:"write"`
	Value  string `json:"value"`
	Call   int64  `json:"call"`
	Return *int64 `json:"return"`
}

type input struct {
	key   string
	write bool
	value string
}

func model() porcupine.Model {
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			byKey := map[string][]porcupine.Operation{}
			for _, one := range history {
				key := one.Input.(input).key
				byKey[key] = append(byKey[key], one)
			}
			var parts [][]porcupine.Operation
			for _, part := range byKey {
				parts = append(parts, part)
			}
			return parts
		},
		Init: func() any { return "" },
		Step: func(state, in, out any) (bool, any) {
			asked := in.(input)
			if asked.write {
				return true, asked.value
			}
			return state == out, state
		},
	}
}

func main() {
	var history []porcupine.Operation
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var one operation
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			fmt.Fprintln(os.Stderr, "no operation:", err)
			os.Exit(2)
		}
		returned := int64(math.MaxInt64)
		if one.Return != nil {
			returned = *one.Return
		}
		history = append(history, porcupine.Operation{
			ClientId: one.Client,
			Input:    input{key: one.Key, write: one.Write, value: one.Value},
			Call:     one.Call,
			Output:   one.Value,
			Return:   returned,
		})
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "cannot read:", err)
		os.Exit(2)
	}
	result := porcupine.CheckOperationsTimeout(model(), history, time.Minute)
	fmt.Println(result)
	if result != porcupine.Ok {
		os.Exit(1)
	}
}
