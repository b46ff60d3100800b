// Command go asks a running glimpse for the images that fit a text.
//
//	go run . [-address 127.0.0.1:50053] [-collection images] [-limit 10] TEXT
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	queryv1 "glimpse/query/v1"
)

func main() {
	address := flag.String("address", "127.0.0.1:50053", "address of the query service")
	collection := flag.String("collection", "images", "collection to search")
	limit := flag.Int("limit", 10, "number of hits")
	flag.Parse()
	if flag.NArg() == 0 {
		log.Fatal("give a text to search for")
	}

	// One connection serves any number of calls at once; make it once and keep it.
	connection, err := grpc.NewClient(*address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	hits := int32(*limit)
	response, err := queryv1.NewQueryClient(connection).Search(ctx, &queryv1.SearchRequest{
		Collection: *collection,
		Query:      &queryv1.SearchRequest_Text{Text: strings.Join(flag.Args(), " ")},
		Options:    &queryv1.SearchOptions{Limit: &hits},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, hit := range response.GetHits() {
		fmt.Printf("%.3f  %s\n", hit.GetScore(), hit.GetAttributes().GetUri())
	}
}
