// Package v20170312 stands in for the library of one cloud's network, so that
// flanneld carries no client of that cloud. It has the names that flanneld's
// backend tencent-vpc uses; that backend fails with a plain error.
package v20170312

import "errors"

var errLeftOut = errors.New("this flanneld was built without the client of Tencent Cloud: choose another backend")

// Client answers every request with an error.
type Client struct{}

// NewClientWithSecretId makes a client.
func NewClientWithSecretId(_, _, _ string) (*Client, error) { return &Client{}, nil }

// Filter selects route tables.
type Filter struct {
	Name   *string
	Values []*string
}

// Route is an entry of a route table.
type Route struct {
	RouteId              *uint64
	DestinationCidrBlock *string
	GatewayType          *string
	GatewayId            *string
	RouteType            *string
	Enabled              *bool
}

// RouteTable is a list of routes.
type RouteTable struct {
	RouteTableId *string
	RouteSet     []*Route
}

// DescribeRouteTablesRequest asks for route tables.
type DescribeRouteTablesRequest struct{ Filters []*Filter }

// NewDescribeRouteTablesRequest makes an empty request.
func NewDescribeRouteTablesRequest() *DescribeRouteTablesRequest {
	return &DescribeRouteTablesRequest{}
}

// DescribeRouteTablesResponse would hold route tables.
type DescribeRouteTablesResponse struct {
	Response struct{ RouteTableSet []*RouteTable }
}

// DescribeRouteTables fails.
func (*Client) DescribeRouteTables(*DescribeRouteTablesRequest) (*DescribeRouteTablesResponse, error) {
	return nil, errLeftOut
}

// CreateRoutesRequest asks for new routes.
type CreateRoutesRequest struct {
	RouteTableId *string
	Routes       []*Route
}

// NewCreateRoutesRequest makes an empty request.
func NewCreateRoutesRequest() *CreateRoutesRequest { return &CreateRoutesRequest{} }

// CreateRoutes fails.
func (*Client) CreateRoutes(*CreateRoutesRequest) (any, error) { return nil, errLeftOut }

// DeleteRoutesRequest names routes to delete.
type DeleteRoutesRequest struct {
	RouteTableId *string
	Routes       []*Route
}

// NewDeleteRoutesRequest makes an empty request.
func NewDeleteRoutesRequest() *DeleteRoutesRequest { return &DeleteRoutesRequest{} }

// DeleteRoutes fails.
func (*Client) DeleteRoutes(*DeleteRoutesRequest) (any, error) { return nil, errLeftOut }
