// Asks a running glimpse for the images that fit a text.
//
//   dotnet run -- [--address 127.0.0.1:50053] [--collection images] [--limit 10] TEXT

using System.Globalization;
using Glimpse.Query.V1;
using Grpc.Core;
using Grpc.Net.Client;

var address = "127.0.0.1:50053";
var collection = "images";
var limit = 10;
var text = new List<string>();
for (var i = 0; i < args.Length; i++)
{
    switch (args[i])
    {
        case "--address": address = args[++i]; break;
        case "--collection": collection = args[++i]; break;
        case "--limit": limit = int.Parse(args[++i], CultureInfo.InvariantCulture); break;
        default: text.Add(args[i]); break;
    }
}
if (text.Count == 0)
{
    Console.Error.WriteLine("give a text to search for");
    return 2;
}

// One channel serves any number of calls at once; make it once and keep it.
using var channel = GrpcChannel.ForAddress($"http://{address}");
var client = new Query.QueryClient(channel);
var request = new SearchRequest
{
    Collection = collection,
    Text = string.Join(' ', text),
    Options = new SearchOptions { Limit = limit },
};
try
{
    var response = await client.SearchAsync(request, deadline: DateTime.UtcNow.AddSeconds(5));
    foreach (var hit in response.Hits)
    {
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{hit.Score:F3}  {hit.Attributes.Uri}"));
    }
    return 0;
}
catch (RpcException error)
{
    Console.Error.WriteLine($"{error.StatusCode}: {error.Status.Detail}");
    return 1;
}
