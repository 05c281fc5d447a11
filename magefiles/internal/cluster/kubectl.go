package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/stack"
)

// kubectl runs the user's kubectl, with the user's cluster and credentials, in the namespace of the settings.
func kubectl(ctx context.Context, s *stack.Stack, settings Settings, args ...string) (*exec.Cmd, error) {
	program, err := exec.LookPath("kubectl")
	if err != nil {
		return nil, errors.New("kubectl is not found on the PATH: install it")
	}
	return command.New(ctx, s.Config.Root, os.Environ(), program, append([]string{"--namespace=" + settings.Namespace}, args...)...), nil
}

// ask runs kubectl and decodes what it prints as JSON.
func ask(ctx context.Context, s *stack.Stack, settings Settings, into any, args ...string) error {
	cmd, err := kubectl(ctx, s, settings, append(args, "--output=json")...)
	if err != nil {
		return err
	}
	said, err := command.Output(ctx, cmd)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(said), into)
}

// tell runs kubectl with what write writes on its standard input, and returns what it prints.
func tell(ctx context.Context, s *stack.Stack, settings Settings, write func(io.Writer) error, args ...string) (string, error) {
	cmd, err := kubectl(ctx, s, settings, args...)
	if err != nil {
		return "", err
	}
	var said, failed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &failed
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	sent := write(in)
	closed := in.Close()
	if err := cmd.Wait(); err != nil {
		// It says more than the pipe that it broke.
		return "", fmt.Errorf("kubectl %s: %w: %s", args[0], err, strings.TrimSpace(failed.String()))
	}
	return said.String(), errors.Join(sent, closed)
}

// pods, deployments and the like, as far as they are read here (https://kubernetes.io/docs/reference/kubernetes-api/).
type list[T any] struct {
	Items []T `json:"items"`
}

type metadata struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
}

type pod struct {
	Metadata metadata `json:"metadata"`
	Spec     struct {
		NodeName string `json:"nodeName"`
	} `json:"spec"`
	Status struct {
		Phase      string      `json:"phase"`
		Init       []container `json:"initContainerStatuses"`
		Containers []container `json:"containerStatuses"`
		Conditions []condition `json:"conditions"`
	} `json:"status"`
}

type condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Message string `json:"message"`
}

type container struct {
	Name         string `json:"name"`
	Ready        bool   `json:"ready"`
	RestartCount int    `json:"restartCount"`
	State        struct {
		Running    *struct{} `json:"running"`
		Waiting    *reason   `json:"waiting"`
		Terminated *reason   `json:"terminated"`
	} `json:"state"`
}

type reason struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// controller is a Deployment or a StatefulSet.
type controller struct {
	Metadata metadata `json:"metadata"`
	Spec     struct {
		Replicas int `json:"replicas"`
	} `json:"spec"`
	Status struct {
		ReadyReplicas int `json:"readyReplicas"`
	} `json:"status"`
}

// podsOf are the pods of a workload, by the label that its objects have.
func podsOf(ctx context.Context, s *stack.Stack, settings Settings, workload string) ([]pod, error) {
	var found list[pod]
	err := ask(ctx, s, settings, &found, "get", "pods", "--selector=app.kubernetes.io/part-of=sigstore-local,app.kubernetes.io/name="+workload)
	return found.Items, err
}
